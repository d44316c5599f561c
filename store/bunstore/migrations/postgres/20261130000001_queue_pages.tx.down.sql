ALTER TABLE {{.Prefix}}queue RESET (vacuum_truncate);
