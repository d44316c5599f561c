// JSON for reading, lexeme by lexeme: nothing is parsed into numbers and back.

const lexeme = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;

// compact is JSON text without blanks between its lexemes.
export const compact = (text) => [...text.matchAll(lexeme)].join("");

// indent spreads JSON text over lines.
export function indent(text) {
  let out = "", depth = 0, before = "";
  const line = () => "\n" + "  ".repeat(depth);
  for (const [token] of text.matchAll(lexeme)) {
    const opened = before === "{" || before === "[";
    if (token === "}" || token === "]") {
      depth--;
      out += opened ? token : line() + token;
    } else {
      if (opened || before === ",") out += line();
      out += token === ":" ? ": " : token;
      if (token === "{" || token === "[") depth++;
    }
    before = token;
  }
  return out;
}

// part is the text of a value within JSON text, by the names and positions that lead to
// it. The value must exist.
export function part(text, ...path) {
  const tokens = [...text.matchAll(lexeme)];
  // behind is the position behind the value that begins at a position.
  const behind = (at) => {
    let depth = 0;
    do {
      const [token] = tokens[at++];
      if (token === "{" || token === "[") depth++;
      else if (token === "}" || token === "]") depth--;
    } while (depth > 0);
    return at;
  };
  let at = 0;
  for (const step of path) {
    const named = tokens[at++][0] === "{";
    for (let n = 0; named ? JSON.parse(tokens[at][0]) !== step : n < step; n++) at = behind(named ? at + 2 : at) + 1;
    if (named) at += 2; // the name and the colon
  }
  const last = tokens[behind(at) - 1];
  return text.slice(tokens[at].index, last.index + last[0].length);
}
