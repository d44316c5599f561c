// The JSON API, below the same mount as this page.

export const page = document.body.dataset;

// Failure is why a call gave nothing: the status and the problem of the answer,
// or status 0 when there was none.
export class Failure extends Error {
  constructor(status, problem = {}) {
    super(problem.detail ?? problem.title ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = problem.code ?? "";
    this.errors = problem.errors ?? [];
  }

  get lost() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

// Lexeme is a number that JavaScript cannot hold, as it was written.
class Lexeme {
  constructor(source) {
    this.source = source;
  }

  toString() {
    return this.source;
  }

  toJSON() {
    return JSON.rawJSON ? JSON.rawJSON(this.source) : this.source;
  }
}

// parse parses JSON. If the browser provides a number's source text, numbers that
// would change keep it: 64-bit ids and a payload's 1e400.
export function parse(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && context?.source && String(value) !== context.source ? new Lexeme(context.source) : value);
}

const sources = new WeakMap();

// source is the JSON text of an answer that call has returned.
export const source = (answer) => sources.get(answer);

export const url = (path) => `${page.root}${path}`;

// call asks the API. A body is sent as JSON; a string is JSON already.
export async function call(method, path, body, headers = {}) {
  const options = { method, headers, cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(20_000) };
  if (body !== undefined) {
    options.headers = { ...headers, "Content-Type": "application/json" };
    options.body = typeof body === "string" ? body : JSON.stringify(body);
  }
  let answer, text;
  try {
    answer = await fetch(url(`api/${path}`), options);
    text = await answer.text();
  } catch {
    throw new Failure(0, { detail: "The server cannot be reached." });
  }
  const json = answer.headers.get("Content-Type")?.includes("json");
  if (answer.ok && text === "") return null;
  if (answer.ok && json) {
    const value = parse(text);
    if (value instanceof Object) sources.set(value, text);
    return value;
  }
  // Middleware of the host may lead to a page where one signs in.
  if (answer.redirected || (answer.ok && !json)) throw new Failure(401);
  let problem = {};
  try {
    problem = json ? parse(text) : {};
  } catch {
    // a proxy's
  }
  throw new Failure(answer.status, problem);
}

export const get = (path) => call("GET", path);

// getAll returns the first 2000 items of a list, for a select: it has no pages.
export async function getAll(path) {
  const all = [];
  let cursor;
  do {
    const { items, next } = await get(`${path}${query({ limit: "200", cursor })}`);
    all.push(...items);
    cursor = next;
  } while (cursor && all.length < 2000);
  return all;
}

// query is a query string of what is not empty. An array is a parameter several times.
export function query(values) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one) search.append(name, one);
  }
  return search.size ? `?${search}` : "";
}
