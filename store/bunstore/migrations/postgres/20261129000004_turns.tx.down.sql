DROP INDEX {{.Prefix}}deliveries_due, {{.Prefix}}deliveries_assistants, {{.Prefix}}deliveries_hosts;
ALTER TABLE {{.Prefix}}deliveries DROP COLUMN assistant_id;
CREATE INDEX {{.Index}}deliveries_pending ON {{.Prefix}}deliveries (host, due_at, id) WHERE state = 'pending';
