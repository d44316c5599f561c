// Package wiretest holds the HTTP API to the transcripts under testdata, on every
// store.
package wiretest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/driver/pgdriver"
	_ "modernc.org/sqlite"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/internal/transcript"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// TestWire replays the transcripts in testdata, each on a fresh service.
//
// Package transcript has the format. $NAME in a request stands for a key (see
// wireBundle) and {{rep X N}} for N times X. An answer is status, headers in order of
// name, and body; run keys, times and hashes are masked. The steps are those of
// wireBundle.Step.
func TestWire(t *testing.T) {
	t.Parallel()
	transcript.Run(t, "testdata/*.txt", func(t *testing.T) transcript.Player { return newWireBundle(t, memstore.New(nil)) })
}

// The transcripts are the same on the databases.
func TestWireOnDatabases(t *testing.T) {
	t.Parallel()
	for name, newStore := range map[string]func(t *testing.T) webtrigger.Store{"sqlite": sqliteStore, "postgres": postgresStore(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transcript.Run(t, "testdata/*.txt", func(t *testing.T) transcript.Player { return newWireBundle(t, newStore(t)) })
		})
	}
}

func sqliteStore(t *testing.T) webtrigger.Store {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "test.db"))
	require.NoError(t, err)
	return migratedStore(t, bun.NewDB(db, sqlitedialect.New()), nil)
}

// postgresStore makes stores in schemas of their own in one database.
func postgresStore(t *testing.T) func(t *testing.T) webtrigger.Store {
	dsn := schemas.Database(t)
	var n atomic.Int64
	return func(t *testing.T) webtrigger.Store {
		t.Helper()
		db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn)))
		return migratedStore(t, bun.NewDB(db, pgdialect.New()), &bunstore.Options{Schema: fmt.Sprintf("wire_%d", n.Add(1))})
	}
}

func migratedStore(t *testing.T, db *bun.DB, opts *bunstore.Options) webtrigger.Store {
	t.Helper()
	s, err := bunstore.New(db, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(s.Close(), db.Close())) })
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

// wireBundle has the keys of a transcript: $KEY, $KEY1B and $REVOKED of assistant 1,
// $KEY2 of assistant 2 whose channel is off. $PERSON of assistant 1 has all scopes, and
// $READER only read.
type wireBundle struct {
	t       *testing.T
	ctx     context.Context
	store   webtrigger.Store
	svc     *webtrigger.Service
	opts    webtrigger.Options
	faults  *faultyStore
	keys    *strings.Replacer
	ids     map[string]int64
	handler http.Handler
	tls     bool
}

// faultyStore is a store that may be unavailable.
type faultyStore struct {
	webtrigger.Store
	reads   bool  // reads fail
	accepts error // of CreateTrigger
}

func (s *faultyStore) Authenticate(ctx context.Context, hash webtrigger.KeyHash, triggerID, runID int64) (webtrigger.Grant, error) {
	if s.reads {
		return webtrigger.Grant{}, webtrigger.ErrUnavailable
	}
	return s.Store.Authenticate(ctx, hash, triggerID, runID)
}

func (s *faultyStore) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	if s.accepts != nil {
		return webtrigger.CreatedTrigger{}, s.accepts
	}
	return s.Store.CreateTrigger(ctx, t)
}

func newWireBundle(t *testing.T, store webtrigger.Store) *wireBundle {
	b := &wireBundle{t: t, ctx: t.Context(), opts: webtrigger.Options{MaxBodyBytes: 64 << 10, CompileSchema: compileSchema}, faults: &faultyStore{Store: store}, ids: make(map[string]int64)}
	b.store = b.faults
	b.reopen()
	require.NoError(t, b.svc.SetChannel(b.ctx, webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	var pairs []string
	for _, k := range []struct{ name, assistant, label string }{{"$KEY2", "2", "Other"}, {"$KEY1B", "1", "n8n"}, {"$KEY", "1", "Make"}, {"$REVOKED", "1", "Old"}} {
		key, secret, err := b.svc.CreateKey(b.ctx, k.assistant, webtrigger.KeySpec{Name: k.label})
		require.NoError(t, err)
		b.ids[k.name] = key.ID
		pairs = append(pairs, k.name, secret)
	}
	for _, k := range []struct {
		name, digit string
		scopes      []webtrigger.Scope
	}{{"$READER", "b", []webtrigger.Scope{webtrigger.ScopeRead}}, {"$PERSON", "c", webtrigger.AllScopes()}} {
		_, err := b.svc.ImportKey(b.ctx, "1", webtrigger.KeySpec{Name: k.name, Scopes: k.scopes}, strings.Repeat(k.digit, 64))
		require.NoError(t, err)
		pairs = append(pairs, k.name, strings.Repeat(k.digit, 64))
	}
	_, err := b.svc.RevokeKey(b.ctx, b.ids["$REVOKED"])
	require.NoError(t, err)
	b.keys = strings.NewReplacer(pairs...)
	return b
}

// Step takes one step: "execute RUN", "start RUN", "cancel RUN REASON", "channel off",
// "callbacks off", "revoke $KEY", "task NAME" (of assistant 1), "retire TASK",
// "tls on", "store unavailable", "store rejects" (triggers), "store stalls" (triggers), "store back", and new options:
// "triggers N" (an hour and key), "queue N" (runs), "accepted on" (AcceptedWhileProcessing).
func (b *wireBundle) Step(step string) {
	b.t.Helper()
	verb, rest, _ := strings.Cut(step, " ")
	what, more, _ := strings.Cut(rest, " ")
	id, _ := strconv.ParseInt(what, 10, 64)
	settings := webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}
	var err error
	switch verb {
	case "execute":
		err = b.svc.Execute(b.ctx, id)
	case "start": // takes the run for a worker that never does anything
		worker := webtrigger.Process{ID: "w", Lease: time.Hour, MaxAttempts: 1}
		if err = b.store.RegisterProcess(b.ctx, worker); err == nil {
			_, err = b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: worker.ID, Token: webtrigger.NewToken(), Limit: 1, RunID: id})
		}
	case "cancel":
		_, err = b.svc.CancelRun(b.ctx, id, more)
	case "channel":
		settings.Enabled = what == "on"
		err = b.svc.SetChannel(b.ctx, settings)
	case "callbacks":
		settings.AllowCallbackURLs = what == "on"
		err = b.svc.SetChannel(b.ctx, settings)
	case "revoke":
		_, err = b.svc.RevokeKey(b.ctx, b.ids[what])
	case "task":
		_, err = b.svc.CreateTaskDefinition(b.ctx, webtrigger.TaskDefinition{AssistantID: what, Name: more, Instructions: "Do it.", Active: true})
	case "retire":
		var task webtrigger.TaskDefinition
		task, err = b.svc.TaskDefinition(b.ctx, id)
		require.NoError(b.t, err)
		task.Active = false
		_, err = b.svc.UpdateTaskDefinition(b.ctx, task)
	case "tls":
		b.tls = what == "on"
	case "store":
		b.faults.reads, b.faults.accepts = what == "unavailable", nil
		switch what {
		case "rejects":
			b.faults.accepts = fmt.Errorf("%w: %w", webtrigger.ErrUnavailable, webtrigger.ErrNotStored)
		case "stalls":
			b.faults.accepts = webtrigger.ErrUnavailable
		}
	case "triggers":
		b.opts.Limits.TriggersPerKey, b.opts.Limits.Window = int(id), time.Hour
		b.reopen()
	case "queue":
		b.opts.Limits.QueuedPerAssistant = int(id)
		b.reopen()
	case "accepted":
		b.opts.AcceptedWhileProcessing = what == "on"
		b.reopen()
	default:
		b.t.Fatalf("no such step: %s", step)
	}
	require.NoError(b.t, err, step)
}

// reopen starts the service again with other options.
func (b *wireBundle) reopen() {
	b.t.Helper()
	svc, err := webtrigger.New(b.faults, webtrigger.RunnerFunc(obey), &b.opts)
	require.NoError(b.t, err)
	b.t.Cleanup(svc.CloseStreams)
	b.svc, b.handler = svc, svc
}

var repeat = regexp.MustCompile(`\{\{rep (\S+) (\d+)\}\}`)

// Exchange implements [transcript.Player].
func (b *wireBundle) Exchange(text string) string {
	b.t.Helper()
	text = repeat.ReplaceAllStringFunc(b.keys.Replace(text), func(m string) string {
		parts := repeat.FindStringSubmatch(m)
		n, _ := strconv.Atoi(parts[2])
		return strings.Repeat(parts[1], n)
	})
	head, body, _ := strings.Cut(text, "\n\n")
	body = strings.TrimSuffix(body, "\n")
	method, rest, _ := strings.Cut(head, " ")
	target, headers, _ := strings.Cut(rest, "\n")
	raw := fmt.Sprintf("%s %s HTTP/1.1\nHost: app.example.com\n%s\n", method, target, strings.TrimSpace(headers))
	if strings.Contains(headers, "Content-Type") {
		raw += fmt.Sprintf("Content-Length: %d\n", len(body))
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(raw+"\n", "\n", "\r\n") + body)))
	require.NoError(b.t, err, raw)
	if b.tls {
		r.TLS = &tls.ConnectionState{}
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return transcribe(w)
}

var masks = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00`), "<time>"},
	{regexp.MustCompile(`(?m)^Etag: ".*"$`), `Etag: "<hash>"`},
}

func transcribe(w *httptest.ResponseRecorder) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d\n", w.Code)
	var names []string
	for name := range w.Header() {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range w.Header()[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, v)
		}
	}
	if w.Body.Len() > 0 {
		fmt.Fprintf(&b, "\n%s\n", w.Body.String())
	}
	text := b.String()
	for _, m := range masks {
		text = m.what.ReplaceAllString(text, m.with)
	}
	return text
}
