UPDATE {{.Prefix}}runs AS r SET task = (SELECT c.task FROM {{.Prefix}}task_copies c WHERE c.hash = substr(r.task, length(r.task) - 63))
    WHERE octet_length(r.task) < 100;
--bun:split
DROP INDEX {{.Prefix}}runs_copies;
--bun:split
DROP TABLE {{.Prefix}}task_copies;
