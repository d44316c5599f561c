DROP TABLE {{.Prefix}}audit;
