DROP INDEX IF EXISTS {{.Prefix}}runs_created;
DROP INDEX IF EXISTS {{.Prefix}}runs_key;
DROP TABLE IF EXISTS {{.Prefix}}unsuccessful;
