package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/needs"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

var codeBlock = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// blocks are a page's in the languages of shells, Python and JavaScript.
func blocks(t *testing.T, page string) (list [][2]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", page))
	require.NoError(t, err)
	for _, found := range codeBlock.FindAllStringSubmatch(string(text), -1) {
		if runnable[found[1]] {
			list = append(list, [2]string{found[1], found[2]})
		}
	}
	return list
}

var runnable = map[string]bool{
	"sh": true, "bash": true, "shell": true, "console": true, "zsh": true,
	"python": true, "py": true, "javascript": true, "js": true, "mjs": true, "node": true, "typescript": true, "ts": true,
}

// needsCurl skips a test where there is no curl, unless none may be skipped.
func needsCurl(t *testing.T) {
	t.Helper()
	if err := needs.Programs("curl"); err != nil {
		needs.Missing(t, err)
	}
}

// executed names the test that executes all blocks of a page in a language: its
// file, and how many blocks there are.
var executed = map[string]map[string]struct {
	blocks int
	test   string
	file   string
}{
	"README.md":          {"sh": {2, "TestReadme", "examples/server/documents_test.go"}},
	"docs/evaluation.md": {"sh": {16, "TestEvaluation", "examples/server/documents_test.go"}},
	"docs/operations.md": {"sh": {2, "TestOperations", "examples/server/documents_test.go"}},
	"docs/recipes.md": {
		"sh": {1, "testRecipes", "examples/server/recipes_test.go"}, "python": {1, "testRecipes", "examples/server/recipes_test.go"},
		"javascript": {1, "testRecipes", "examples/server/recipes_test.go"},
	},
	"docs/callbacks.md": {
		"js":     {1, "TestDocumentedReceivers", "internal/callbacktest/documented_test.go"},
		"python": {1, "TestDocumentedReceivers", "internal/callbacktest/documented_test.go"},
	},
	"docs/streaming.md": {
		"sh": {1, "TestStreaming", "examples/server/documents_test.go"},
		"js": {1, "TestDocumentedEventSource", "e2e/browser/documented_test.go"},
	},
}

// TestEveryBlockIsExecuted finds blocks that no test executes, and commands that
// hide in blocks of no language or in a sentence.
func TestEveryBlockIsExecuted(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	pages = append(pages, "../../README.md", "../../CONTRIBUTING.md", "../../SECURITY.md")
	hidden := regexp.MustCompile("(?m)^(\\$ )?(curl|wget|python3?|node) |`(curl|wget|python3?|node) ")
	for _, path := range pages {
		page := filepath.ToSlash(strings.TrimPrefix(path, "../../"))
		counted := make(map[string]int)
		for _, block := range blocks(t, page) {
			if page != "CONTRIBUTING.md" { // what it lists are the targets of the Makefile
				counted[block[0]]++
			}
		}
		want := make(map[string]int)
		for language, by := range executed[page] {
			want[language] = by.blocks
			test, err := os.ReadFile(filepath.Join("../..", by.file))
			require.NoError(t, err)
			require.Contains(t, string(test), "func "+by.test+"(t *testing.T")
			require.Contains(t, string(test), page)
		}
		require.Equal(t, want, counted, "the blocks of %s, and those that a test executes", page)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		rest := codeBlock.ReplaceAllStringFunc(string(text), func(block string) string {
			if runnable[codeBlock.FindStringSubmatch(block)[1]] {
				return ""
			}
			return block
		})
		require.Empty(t, hidden.FindAllString(rest, -1), "commands in %s outside of a block of their language", page)
	}
}

// TestReadme executes the lines of the README, in their order.
func TestReadme(t *testing.T) {
	t.Parallel()
	needsCurl(t)
	w := newWalk(t)
	w.page("README.md", []string{`"status":"completed","result":"Hello from the assistant"`})
}

// TestEvaluation executes the lines of docs/evaluation.md, in their order.
func TestEvaluation(t *testing.T) {
	t.Parallel()
	needsCurl(t)
	w := newWalk(t)
	w.page("docs/evaluation.md", []string{
		`"trigger_id":1,"status":"accepted"`,
		"Etag: ",
		`"run_status":"completed"`,
		`"result":"At last"`,
		`"event_type":"run_completed"`,
		`"event_type":"run_completed"`,
		`"result":"Refunds take five days"`,
		`assistant: Refunds take five days"`,
		`"items":[{"id":4,`,
		`"trigger_id":1,"status":"accepted"`,
		`"state":"delivered"`,
		`"trigger_id":2,"status":"accepted"`,
		`"status":"input_received"`,
	})
	require.Contains(t, w.receiver.String(), "Done", "the receiver prints the callback")
}

// TestOperations executes the lines of docs/operations.md, on a Postgres.
func TestOperations(t *testing.T) {
	t.Parallel()
	needsCurl(t)
	w := newWalk(t)
	w.env["DSN"] = withPassword(pgtest.Database(t))
	w.page("docs/operations.md", []string{`"trigger_id":1,"status":"accepted"`, `"event_type":"run_completed"`})
	require.Len(t, w.servers, 2)
	require.Contains(t, w.do("curl -sS -u admin:open-sesame http://127.0.0.1:8080/admin/api/runs/1"), "executed elsewhere")
}

// TestStreaming executes the lines of docs/streaming.md against the server of
// docs/evaluation.md.
func TestStreaming(t *testing.T) {
	t.Parallel()
	needsCurl(t)
	w := newWalk(t)
	w.do("go run ./examples/server -db memory -admin-password open-sesame")
	w.servers["127.0.0.1:8080"].say("/emit 3")
	w.ended("1")
	w.page("docs/streaming.md", []string{`"event_type":"run_queued"`, `"event_type":"run_completed"`})
	later := w.do("curl -sS -N -u admin:open-sesame -H 'Last-Event-ID: 3' http://127.0.0.1:8080/conversations/1/agent-events")
	require.NotContains(t, later, "run_queued")
	require.Contains(t, later, "\nid: 4\n")
}

// page executes the shell blocks of a page. answers has, for each curl line, what
// it is answered with.
func (w *walk) page(page string, answers []string) {
	w.t.Helper()
	for _, block := range blocks(w.t, page) {
		if block[0] != "sh" {
			continue
		}
		for _, line := range linesOf(block[1]) {
			switch {
			case strings.HasPrefix(line, "curl "):
				require.NotEmpty(w.t, answers, "an answer to %s", line)
				w.ask(line, answers[0])
				if strings.Contains(answers[0], `"status":"accepted"`) {
					w.ended("1")
				}
				answers = answers[1:]
			case line == "make test": // which is what executes this
			default:
				w.do(line)
			}
		}
	}
	require.Empty(w.t, answers, "answers to lines that are not there")
}
