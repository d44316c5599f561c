package callbacktest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/needs"
	"github.com/webtrigger-go/webtrigger/internal/signature"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// TestDocumentedReceivers runs the receivers of docs/callbacks.md as they stand there, each behind a reverse proxy with TLS,
// and sends them callbacks of a service. Python and Node.js may be missing, unless WEBTRIGGER_TEST_ALL is set.
func TestDocumentedReceivers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts compilers and interpreters")
	}
	for language, command := range map[string]struct {
		file string
		run  []string
	}{
		"go":     {"receiver.go", []string{"go", "build", "-o", "receiver", "receiver.go"}},
		"js":     {"receiver.mjs", []string{"node", "receiver.mjs"}},
		"python": {"receiver.py", []string{"python3", "receiver.py"}},
	} {
		t.Run(language, func(t *testing.T) {
			if err := needs.Programs(command.run[0]); err != nil {
				needs.Missing(t, err)
			}
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, command.file), []byte(documented(t, language)), 0o644))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "inbox"), 0o755))
			run := command.run
			if language == "go" {
				build := exec.Command("go", "build", "-o", filepath.Join(dir, "receiver"), filepath.Join(dir, command.file))
				out, err := build.CombinedOutput()
				require.NoError(t, err, string(out))
				run = []string{filepath.Join(dir, "receiver")}
			}
			receive(t, dir, run)
		})
	}
}

// documented is the one whole program in a language; the other blocks of its language are pieces.
func documented(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/callbacks.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "```"+language+"\n")
	require.True(t, found)
	program, _, found := strings.Cut(rest, "```\n")
	require.True(t, found)
	return program
}

// program is a receiver that runs.
type program struct {
	front *httptest.Server // with TLS
	stop  func()
	acted map[string]int // by run_key; to be read when it has stopped
}

func startProgram(t *testing.T, dir string, command []string, secrets ...webtrigger.SigningSecret) *program {
	t.Helper()
	var texts []string
	for _, s := range secrets {
		texts = append(texts, s.Reveal())
	}
	var errors bytes.Buffer
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Stderr = dir, &errors
	cmd.Env = append(os.Environ(), "LISTEN=127.0.0.1:0", "WEBHOOK_SECRETS="+strings.Join(texts, " "))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &program{acted: make(map[string]int)}
	address := make(chan string, 1)
	var read sync.WaitGroup
	read.Go(func() {
		defer close(address)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if where, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
				address <- where
			}
			if key, ok := strings.CutPrefix(lines.Text(), "acting on "); ok {
				p.acted[key]++
			}
		}
	})
	p.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		read.Wait()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(errors.String())
		}
	})
	t.Cleanup(p.stop)
	where, ok := <-address
	require.True(t, ok, "it ended before it listened")
	p.front = httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: where}))
	t.Cleanup(p.front.Close)
	return p
}

func receive(t *testing.T, dir string, command []string) {
	old, next, foreign := webtrigger.NewSigningSecret(), webtrigger.NewSigningSecret(), webtrigger.NewSigningSecret()
	p := startProgram(t, dir, command, old, next)
	hook := p.front.URL + "/hook"
	roots := x509.NewCertPool()
	roots.AddCert(p.front.Certificate())
	echo := webtrigger.RunnerFunc(func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		return &webtrigger.Result{Text: task.Input.Message}, nil
	})
	svc, err := webtrigger.New(memstore.New(nil), echo, &webtrigger.Options{BaseURL: "https://app.example.com", Callback: webtrigger.CallbackOptions{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots,
	}})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	start(t, svc)
	once := map[string]int{"together": 1}
	for _, secrets := range [][]webtrigger.SigningSecret{{old}, {next, old}, {next}} {
		require.NoError(t, svc.SetSigningSecrets(t.Context(), "1", secrets...))
		run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "h\u00e9llo \U0001f600 <&>\u2028", CallbackURL: hook})
		require.NoError(t, err)
		first := settled(t, svc, run.ID, 1)
		require.Equal(t, webtrigger.DeliveryDelivered, first.State, "%s: %d %s", first.Error, first.HTTPStatus, first.Response)
		_, err = svc.Redeliver(t.Context(), first.ID)
		require.NoError(t, err)
		require.Equal(t, webtrigger.DeliveryDelivered, settled(t, svc, run.ID, 2).State)
		once[run.Key] = 1
	}
	for _, secrets := range [][]webtrigger.SigningSecret{{foreign}, nil} {
		require.NoError(t, svc.SetSigningSecrets(t.Context(), "1", secrets...))
		run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "m", CallbackURL: hook})
		require.NoError(t, err)
		require.Equal(t, http.StatusUnauthorized, settled(t, svc, run.ID, 1).HTTPStatus, "signed by %v", secrets)
	}
	forge(t, p, next)
	together(t, p, next)
	p.stop()
	require.Equal(t, once, p.acted, "what was sent twice or more is acted on once, and what was forged not at all")
}

// forge posts callbacks that a receiver must reject.
func forge(t *testing.T, p *program, secret webtrigger.SigningSecret) {
	t.Helper()
	for i, change := range []func(id string, at int64, body string) (header []string, sent string){
		func(id string, at int64, body string) ([]string, string) {
			return signed(secret, id, at, body), body + " "
		},
		func(id string, at int64, body string) ([]string, string) {
			return signed(secret, id, at-600, body), body
		},
		func(id string, at int64, body string) ([]string, string) {
			return signed(secret, id, at+600, body), body
		},
		func(id string, at int64, body string) ([]string, string) {
			h := signed(secret, id, at-600, body)
			h[3] = strconv.FormatInt(at, 10)
			return h, body
		},
		func(id string, at int64, body string) ([]string, string) {
			h := signed(secret, id, at, body)
			h[1] = "another"
			return h, body
		},
		func(id string, at int64, body string) ([]string, string) {
			h := signed(secret, id, at, body)
			h[5] = strings.Replace(h[5], "v1,", "v2,", 1)
			return h, body
		},
		func(id string, at int64, body string) ([]string, string) {
			h := signed(secret, id, at, body)
			h[3] = "now"
			return h, body
		},
		func(id string, at int64, body string) ([]string, string) {
			return signed(secret, id, at, body)[:4], body
		},
		func(_ string, _ int64, body string) ([]string, string) { return nil, body },
	} {
		id := fmt.Sprintf("forged-%d", i)
		header, body := change(id, time.Now().Unix(), fmt.Sprintf(`{"run_key":%q,"status":"completed"}`, id))
		require.Equal(t, http.StatusUnauthorized, post(t, p, header, body), "forgery %d", i)
	}
}

// together posts one callback many times at once.
func together(t *testing.T, p *program, secret webtrigger.SigningSecret) {
	t.Helper()
	const id = "together"
	body := `{"run_key":"together","status":"completed"}`
	header := signed(secret, id, time.Now().Unix(), body)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := post(t, p, header, body); got != http.StatusNoContent {
				t.Errorf("answered %d", got)
			}
		})
	}
	wg.Wait()
}

func signed(secret webtrigger.SigningSecret, id string, at int64, body string) []string {
	key, _ := signature.ParseSecret(secret.Reveal())
	return []string{
		signature.HeaderID, id, signature.HeaderTimestamp, strconv.FormatInt(at, 10),
		signature.HeaderSignature, signature.Sign(key, id, at, []byte(body)),
	}
}

func post(t *testing.T, p *program, header []string, body string) (status int) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.front.URL+"/hook", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := p.front.Client().Do(r)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// start runs Work until the test ends.
func start(t *testing.T, svc *webtrigger.Service) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Work(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// settled waits for the outcome of a run's nth delivery.
func settled(t *testing.T, svc *webtrigger.Service, runID int64, nth int) (d webtrigger.Delivery) {
	t.Helper()
	require.Eventually(t, func() bool {
		all, err := svc.Deliveries(t.Context(), runID)
		if err != nil || len(all) < nth {
			return false
		}
		d = all[nth-1]
		return d.State != webtrigger.DeliveryPending && d.State != webtrigger.DeliverySending
	}, time.Minute, 2*time.Millisecond)
	return d
}
