package console_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Markdown becomes elements, and what is not known, or leads anywhere but to the
// web and to mail, stays text.
func TestMarkdown(t *testing.T) {
	t.Parallel()
	v := visit(t, serve(t))
	v.signIn()
	rendered := func(text string) string {
		t.Helper()
		return eval[string](v, `import("/admin/static/markdown.js").then(({ markdown }) => {
			const place = document.createElement("div");
			place.append(markdown(`+quote(text)+`));
			return place.innerHTML;
		})`)
	}
	const link = ` rel="noopener noreferrer nofollow" target="_blank"`
	for text, want := range map[string]string{
		"# A\n\nb *c* **d** `e` ~~f~~":         `<h3>A</h3><p>b <em>c</em> <strong>d</strong> <code>e</code> <s>f</s></p>`,
		"- a\n- b\n  - c\n\n3. d":              `<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><ol start="3"><li>d</li></ol>`,
		"> a\n\n---\n\n```go\n<b>\n```":        `<blockquote><p>a</p></blockquote><hr><pre tabindex="0" role="group" aria-label="Code"><code>&lt;b&gt;</code></pre>`,
		"[a](https://example.com/?b=1&c)":      `<p><a href="https://example.com/?b=1&amp;c"` + link + `>a</a></p>`,
		"see http://example.com/a.":            `<p>see <a href="http://example.com/a"` + link + `>http://example.com/a</a>.</p>`,
		"[m](mailto:a@example.com)":            `<p><a href="mailto:a@example.com"` + link + `>m</a></p>`,
		"![i](https://example.com/i.png)":      `<p><a href="https://example.com/i.png"` + link + `>i</a></p>`, // nothing is loaded
		"[a](javascript:alert(1))":             `<p>[a](javascript:alert(1))</p>`,
		"[a](JaVaScRiPt:alert%281%29)":         `<p>[a](JaVaScRiPt:alert%281%29)</p>`,
		"[a](<javascript:alert`1`>)":           "<p>[a](&lt;javascript:alert`1`&gt;)</p>",
		"[a](\x01javascript:alert`1`)":         "<p>[a](\x01javascript:alert`1`)</p>",
		"[a](data:text/html,b)":                `<p>[a](data:text/html,b)</p>`,
		"[a](vbscript:b)":                      `<p>[a](vbscript:b)</p>`,
		"[a](/admin/)":                         `<p>[a](/admin/)</p>`,
		"[a](//example.com/)":                  `<p>[a](//example.com/)</p>`,
		`[a](https://example.com/"onclick="b)`: `<p><a href="https://example.com/%22onclick=%22b"` + link + `>a</a></p>`,
		"[<img src=x>](https://example.com/)":  `<p><a href="https://example.com/"` + link + `>&lt;img src=x&gt;</a></p>`,
		"# " + evil:                            `<h3>` + escaped(evil) + `</h3>`,
		"| a |\n|---|\n| " + evil + " |": `<div class="scroll" tabindex="0" role="region" aria-label="Table"><table><thead><tr><th scope="col">a</th></tr></thead>` +
			`<tbody><tr><td>` + escaped(evil) + `</td></tr></tbody></table></div>`,
	} {
		require.Equal(t, want, rendered(text), text)
	}

	// What would take another renderer ages, or all of its stack, takes this one a moment.
	for _, piece := range []string{"*", "_", "[", "![", "`", "**a", "[a](", "> ", "- ", "1. ", "|a", "~~", "<", "\\", "a*b_"} {
		text := strings.Repeat(piece, 100_000/len(piece))
		require.NotEmpty(t, rendered(text), piece)
		require.NotEmpty(t, rendered(strings.ReplaceAll(text, " ", " a\n")), piece)
	}
	v.clean()
}

// escaped returns text in the form of innerHTML.
func escaped(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}
