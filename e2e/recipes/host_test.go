package recipes_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// host is a service whose assistant answers after a delay, or fails if the message asks
// for it.
type host struct {
	svc *webtrigger.Service
	url string
	key string
}

// newHost starts a host that may call back receivers of this machine that roots
// vouch for.
func newHost(t *testing.T, takes time.Duration, roots *x509.CertPool) *host {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	h := &host{url: "http://" + server.Listener.Addr().String()}
	think := func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		select {
		case <-time.After(takes):
			if task.Prompt == "fail" {
				return nil, errors.New("asked to fail")
			}
			return &webtrigger.Result{Text: "Done: " + task.Prompt}, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	var err error
	h.svc, err = webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(think), &webtrigger.Options{
		BaseURL: h.url, DrainTimeout: -1,
		Callback: webtrigger.CallbackOptions{
			Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots, Retry: &webtrigger.RetryPolicy{},
		},
	})
	require.NoError(t, err)
	require.NoError(t, h.svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	_, h.key, err = h.svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "Recipe"})
	require.NoError(t, err)
	server.Config.Handler = h.svc
	server.Start()
	ctx, stop := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- h.svc.Work(ctx) }()
	t.Cleanup(func() {
		server.Close()
		stop()
		require.NoError(t, <-worked)
	})
	return h
}
