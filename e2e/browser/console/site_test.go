package console_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/e2e/browser"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/servertest"
)

// patience is how long a test waits for what takes milliseconds.
const patience = 30 * time.Second

// What the tests have in common: the evaluation server, built once, and Chromium.
var (
	programs string // a directory for what is built
	binary   string
	chromium browser.Shared
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "webtrigger-console-")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir
	if binary, err = servertest.Build("../../../examples/server", dir); err != nil {
		log.Print(err)
		return 1
	}
	defer pgtest.StopShared()
	defer chromium.Close()
	return m.Run()
}

const password = "correct horse"

// serve starts the evaluation server and returns its URL.
func serve(t *testing.T, flags ...string) (url string) {
	t.Helper()
	return begin(t, flags...).URL(t)
}

// begin is serve for a test that also ends the server.
func begin(t *testing.T, flags ...string) *servertest.Process {
	t.Helper()
	flags = append([]string{"-addr", "127.0.0.1:0", "-admin-password", password}, flags...)
	return servertest.Start(t, servertest.Command(t, binary, flags...))
}

// seed returns a database with runs of the last three days.
var seed = sync.OnceValues(func() (string, error) {
	program, err := servertest.Build("../../../examples/seed", programs)
	if err != nil {
		return "", err
	}
	file := filepath.Join(programs, "seed.db")
	out, err := exec.Command(program, "-db", file, "-runs", "250", "-days", "3").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("seed: %w: %s", err, out)
	}
	return file, nil
})

// seeded returns the flags of a server with a copy of that database.
func seeded(t *testing.T) []string {
	t.Helper()
	file, err := seed()
	require.NoError(t, err)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	own := filepath.Join(t.TempDir(), "seed.db")
	require.NoError(t, os.WriteFile(own, content, 0o600))
	return []string{"-db", "sqlite:" + own}
}

// receiver takes callbacks over HTTPS and answers with text that must stay text. It
// rejects the first one.
type receiver struct {
	url, ca string

	mu     sync.Mutex
	broken int // number of the next requests that are rejected
	bodies []map[string]any
	header http.Header // of the last request
	body   []byte
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{ca: filepath.Join(t.TempDir(), "ca.pem"), broken: 1}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		var body map[string]any
		content, _ := io.ReadAll(request.Body)
		_ = json.Unmarshal(content, &body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.header, r.body = request.Header, content
		r.bodies = append(r.bodies, body)
		if r.broken > 0 {
			r.broken--
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, evil)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(r.ca, certificate, 0o600))
	r.url = server.URL
	return r
}

func (r *receiver) flags() []string {
	return []string{"-callback-allow", "127.0.0.0/8", "-callback-ca", r.ca}
}

// reject has the next n requests rejected.
func (r *receiver) reject(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = n
}

// last returns the last request.
func (r *receiver) last() (http.Header, []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.header, r.body
}

func (r *receiver) received() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.bodies)
}

// api calls the JSON API beside the browser.
func api(t *testing.T, url, call string, body any) map[string]any {
	t.Helper()
	method, path, _ := strings.Cut(call, " ")
	sent, err := json.Marshal(body)
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), method, url+"/admin/api"+path, bytes.NewReader(sent))
	require.NoError(t, err)
	request.SetBasicAuth("admin", password)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var answer map[string]any
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	require.Less(t, response.StatusCode, 300, "%v", answer)
	return answer
}
