DROP INDEX IF EXISTS {{.Index}}runs_key;
DROP TABLE IF EXISTS {{.Prefix}}unsuccessful;
