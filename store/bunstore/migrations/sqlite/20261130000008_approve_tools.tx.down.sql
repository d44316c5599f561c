ALTER TABLE {{.Prefix}}task_definitions DROP COLUMN approve_tools;
