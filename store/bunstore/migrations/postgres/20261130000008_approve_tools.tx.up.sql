ALTER TABLE {{.Prefix}}task_definitions ADD COLUMN approve_tools text NOT NULL DEFAULT 'null'; -- JSON: names
