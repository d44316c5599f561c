-- Whose queue a run takes a place in; NULL: the run came without a bound, and costs
-- the index nothing.
ALTER TABLE {{.Prefix}}queue ADD COLUMN IF NOT EXISTS bounded_for text COLLATE "C";
CREATE INDEX IF NOT EXISTS {{.Index}}queue_bounded ON {{.Prefix}}queue (bounded_for) WHERE NOT leased AND bounded_for IS NOT NULL;
