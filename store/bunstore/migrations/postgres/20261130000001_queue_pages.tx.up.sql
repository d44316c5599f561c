-- The queue is empty at quiet times. Vacuum would cut it to no page at all, and the planner
-- then reads it whole, with a plan that connections keep while it grows.
ALTER TABLE {{.Prefix}}queue SET (vacuum_truncate = false);
