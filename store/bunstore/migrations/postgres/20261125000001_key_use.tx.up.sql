-- When a key was last used, up to a minute behind; NULL: never.
ALTER TABLE {{.Prefix}}api_keys ADD COLUMN IF NOT EXISTS last_used_at timestamptz;
