package bunstore_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/internal/strictjson/corpus"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// maxDepth is how deep a body may nest, its own object counted.
const maxDepth = 64

// Every document of the corpus, as metadata and as a member of context, on every
// store: a valid document is returned byte for byte, an invalid one is rejected.
func TestCorpus(t *testing.T) {
	t.Parallel()
	valid, invalid := 0, 0
	for _, c := range corpus.Cases() {
		if c.Status == http.StatusOK {
			valid++
		} else {
			invalid++
		}
	}
	require.GreaterOrEqual(t, valid, 90)
	require.GreaterOrEqual(t, invalid, 180)
	for name, newStore := range map[string]func(t *testing.T) webtrigger.Store{
		"memory":   func(*testing.T) webtrigger.Store { return memstore.New(nil) },
		"sqlite":   func(t *testing.T) webtrigger.Store { return migrated(t, sqliteDB(t, ""), nil) },
		"postgres": func(t *testing.T) webtrigger.Store { return migrated(t, postgresDB(t, schemas.Database(t)), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			svc := service(t, s)
			_, secret, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "Name"})
			require.NoError(t, err)
			p := poster{t, svc, secret}
			for _, c := range corpus.Cases() {
				if c.Status != http.StatusOK {
					status, _ := p.post(c.Document)
					require.Equal(t, c.Status, status, "%s: %q", c, c.Document)
				}
				p.both(s, c)
			}
		})
	}
}

type poster struct {
	t      *testing.T
	svc    *webtrigger.Service
	secret string
}

// post sends a body and returns the status and the run.
func (p poster) post(body []byte) (status int, runID int64) {
	p.t.Helper()
	r := httptest.NewRequestWithContext(p.t.Context(), "POST", "/api/v1/assistants/1/web-trigger", bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+p.secret)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	p.svc.ServeHTTP(w, r)
	var answer struct {
		RunID int64 `json:"run_id"`
	}
	_ = json.Unmarshal(w.Body.Bytes(), &answer)
	return w.Code, answer.RunID
}

// both sends a document in its two places at once where it is valid, and in each
// alone where it is not.
func (p poster) both(s webtrigger.Store, c corpus.Case) {
	p.t.Helper()
	metadata := []byte(`"metadata":` + string(c.Document))
	context := []byte(`"context":{"v":` + string(c.Document) + `}`)
	body := func(parts ...[]byte) []byte {
		return append(append([]byte(`{"message":"m",`), bytes.Join(parts, []byte(","))...), '}')
	}
	fine := c.Status == http.StatusOK || c.Section == "top level is not an object" && !bytes.Contains(c.Document, []byte(`\u0000`))
	if !fine || depth(c.Document) > maxDepth-2 {
		for _, part := range [][]byte{metadata, context} {
			status, _ := p.post(body(part))
			fits := fine && depth(c.Document) == maxDepth-1 && &part[0] == &metadata[0]
			if fits {
				require.Equal(p.t, http.StatusAccepted, status)
				continue
			}
			require.Contains(p.t, []int{http.StatusBadRequest, http.StatusUnprocessableEntity}, status, "%s: %q", c, body(part))
		}
		return
	}
	status, runID := p.post(body(metadata, context))
	require.Equal(p.t, http.StatusAccepted, status, "%s: %q", c, c.Document)
	input, err := s.RunInput(p.t.Context(), runID)
	require.NoError(p.t, err)
	document := string(bytes.Trim(c.Document, " \t\r\n"))
	if document == "null" {
		document = "" // absent
	}
	require.Equal(p.t, document, string(input.Metadata), "%s", c)
	require.Equal(p.t, `{"v":`+string(c.Document)+`}`, string(input.Context), "%s", c)
}

// depth is how deep a valid document nests.
func depth(document []byte) (deepest int) {
	level, quoted := 0, false
	for i := 0; i < len(document); i++ {
		switch b := document[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			level++
			deepest = max(deepest, level)
		case b == '}' || b == ']':
			level--
		}
	}
	return deepest
}
