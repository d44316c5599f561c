DROP TABLE {{.Prefix}}purges;
