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
