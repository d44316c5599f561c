// The request that started a run, to send it again.

import { $ } from "./dom.js";
import { compact } from "./json.js";

// request is the body of the trigger of a run as JSON, with those of the optional
// fields that are named. Context and metadata have every lexeme as it was sent: they
// are on the page.
export function request(run, ...optional) {
  const members = [["message", JSON.stringify(run.message)]];
  const add = (name, json) => json && members.push([name, json]);
  add("subject", run.subject && JSON.stringify(run.subject));
  add("context", $("context") && compact($("context").textContent));
  add("metadata", $("metadata") && compact($("metadata").textContent));
  add("task_definition_id", run.task_definition_id && String(run.task_definition_id));
  for (const name of optional) add(name, run[name] && JSON.stringify(run[name]));
  return `{${members.map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(",")}}`;
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

// curl is a line that works when it is pasted into a POSIX shell. authorization is a
// word of the shell, such as a quoted header.
export function curl(address, authorization, body) {
  return `curl -sS -H ${authorization} -H 'Content-Type: application/json' -d ${quoted(body)} ${quoted(address)}`;
}
