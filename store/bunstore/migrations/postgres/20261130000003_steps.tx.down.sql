DROP TABLE {{.Prefix}}steps;
