package standardwebhooks_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/internal/needs"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// callback is one POST as it came over the wire.
type callback struct {
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

func (c callback) header() http.Header {
	h := make(http.Header)
	for name, value := range c.Headers {
		h.Set(name, value)
	}
	return h
}

// send sends a receiver one callback of a service for each set of secrets.
func send(t *testing.T, secrets ...[]webtrigger.SigningSecret) []callback {
	t.Helper()
	got := make(chan callback, len(secrets))
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c := callback{map[string]string{}, string(body)}
		for name := range r.Header {
			c.Headers[strings.ToLower(name)] = r.Header.Get(name)
		}
		got <- c
	}))
	defer receiver.Close()
	roots := x509.NewCertPool()
	roots.AddCert(receiver.Certificate())
	echo := webtrigger.RunnerFunc(func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		return &webtrigger.Result{Text: task.Input.Message}, nil
	})
	svc, err := webtrigger.New(memstore.New(nil), echo, &webtrigger.Options{
		BaseURL:  "https://app.example.com",
		Callback: webtrigger.CallbackOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots},
	})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(ctx) }()
	defer func() {
		stop()
		require.NoError(t, <-worked)
	}()
	var all []callback
	for _, set := range secrets {
		require.NoError(t, svc.SetSigningSecrets(t.Context(), "1", set...))
		_, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "h\u00e9llo \U0001f600 <&>\u2028", CallbackURL: receiver.URL})
		require.NoError(t, err)
		select {
		case c := <-got:
			all = append(all, c)
		case <-time.After(20 * time.Second):
			require.FailNow(t, "no callback came")
		}
	}
	return all
}

func TestGoLibraryVerifiesOurCallbacks(t *testing.T) {
	t.Parallel()
	one, two := webtrigger.NewSigningSecret(), webtrigger.NewSigningSecret()
	calls := send(t, []webtrigger.SigningSecret{one}, []webtrigger.SigningSecret{two, one})
	for _, secret := range []webtrigger.SigningSecret{one, two} {
		wh, err := standardwebhooks.NewWebhook(secret.Reveal())
		require.NoError(t, err)
		ours, err := client.NewVerifier([]string{secret.Reveal()}, nil)
		require.NoError(t, err)
		for i, c := range calls {
			theirs := wh.Verify([]byte(c.Body), c.header())
			require.Equal(t, theirs == nil, ours.Verify(c.header(), []byte(c.Body)) == nil, "the two agree")
			signed := i == 1 || secret == one
			require.Equal(t, signed, theirs == nil, "callback %d: %v", i, theirs)
			require.Error(t, wh.Verify([]byte(c.Body+" "), c.header()))
		}
	}
}

func TestWeVerifyWhatTheGoLibrarySigns(t *testing.T) {
	t.Parallel()
	secret := webtrigger.NewSigningSecret()
	wh, err := standardwebhooks.NewWebhook(secret.Reveal())
	require.NoError(t, err)
	ours, err := client.NewVerifier([]string{secret.Reveal()}, nil)
	require.NoError(t, err)
	now := time.Now()
	signature, err := wh.Sign("msg_1", now, []byte(`{"run_key": "x"}`))
	require.NoError(t, err)
	h := make(http.Header)
	h.Set("webhook-id", "msg_1")
	h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	h.Set("webhook-signature", signature)
	require.NoError(t, ours.Verify(h, []byte(`{"run_key": "x"}`)))
	require.ErrorIs(t, ours.Verify(h, []byte(`{"run_key": "y"}`)), client.ErrSignature)
}

// TestNodeLibraryVerifiesOurCallbacks needs Node.js and npm's registry. Without
// them it is skipped, unless WEBTRIGGER_TEST_ALL is set.
func TestNodeLibraryVerifiesOurCallbacks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/node")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := needs.NPM(ctx, dir); err != nil {
		needs.Missing(t, err)
	}

	one, two := webtrigger.NewSigningSecret(), webtrigger.NewSigningSecret()
	calls := send(t, []webtrigger.SigningSecret{one}, []webtrigger.SigningSecret{two, one})
	asked, err := json.Marshal(map[string]any{"secrets": []string{one.Reveal(), two.Reveal()}, "callbacks": calls})
	require.NoError(t, err)
	node := exec.CommandContext(ctx, "node", "verify.mjs")
	node.Dir = dir
	node.Stdin = strings.NewReader(string(asked))
	out, err := node.Output()
	require.NoError(t, err)
	var verdicts [][]bool // secret → callback → valid
	require.NoError(t, json.Unmarshal(out, &verdicts))
	require.Equal(t, [][]bool{{true, true}, {false, true}}, verdicts)
}
