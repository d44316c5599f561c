package admin_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
	"github.com/webtrigger-go/webtrigger/client"
)

func newRequest(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// serve calls a handler without a network.
func serve(handler http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// send sends a request as root; the body of the answer is open.
func (h *host) send(r *http.Request) *http.Response {
	h.t.Helper()
	r.Header.Set("X-User", "root")
	response, err := h.wire.RoundTrip(r)
	require.NoError(h.t, err)
	h.t.Cleanup(func() { response.Body.Close() })
	return response
}

func TestNew(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for name, make := range map[string]func() (*admin.Handler, error){
		"no service":    func() (*admin.Handler, error) { return admin.New(nil, h.authorize, nil) },
		"no authorizer": func() (*admin.Handler, error) { return admin.New(h.svc, nil, nil) },
		"negative":      func() (*admin.Handler, error) { return admin.New(h.svc, h.authorize, &admin.Options{MaxBodyBytes: -1}) },
	} {
		_, err := make()
		require.Error(t, err, name)
	}
	_, err := admin.New(h.svc, h.authorize, nil)
	require.NoError(t, err)
}

// TestAdminKeys_create_returnsPlaintextOnce looks for a key wherever it could leak.
func TestAdminKeys_create_returnsPlaintextOnce(t *testing.T) {
	t.Parallel()
	h := setup(t)
	key := h.do("POST /assistants/1/keys", `{"name":"Zapier"}`).decode()
	secret := key["key"].(string)
	require.Regexp(t, "^[0-9a-f]{64}$", secret)
	require.Equal(t, secret[:8], key["prefix"])

	bearer := newRequest(t, "POST", "/api/v1/assistants/1/web-trigger", `{"message":"m"}`)
	bearer.Header.Set("Authorization", "Bearer "+secret)
	require.Equal(t, http.StatusAccepted, serve(h.svc, bearer).Code)
	revoked := h.do("POST /keys/1/revoke", "")
	shown := h.everything() + revoked.Body + h.do("GET /runs/1", "").Body
	require.NotContains(t, shown, `"key":`)

	again := newRequest(t, "POST", "/api/v1/assistants/1/web-trigger", `{"message":"m"}`)
	again.Header.Set("Authorization", "Bearer "+secret)
	require.Equal(t, http.StatusUnauthorized, serve(h.svc, again).Code)

	require.Contains(t, h.log.String(), "key created")
	hash := sha256.Sum256([]byte(secret))
	for _, part := range []string{secret, secret[8:], hex.EncodeToString(hash[:])} {
		require.NotContains(t, shown, part)
		require.NotContains(t, h.log.String(), part)
	}
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	t.Parallel()
	h := setup(t)
	fill(h)
	for _, c := range calls() {
		if c.write() || strings.Contains(c.call, "/events") {
			continue
		}
		get := h.do(c.call, "", "X-Request-Id", "same")
		head := h.do(strings.Replace(c.call, "GET", "HEAD", 1), "", "X-Request-Id", "same")
		require.Empty(t, head.Body, c.call)
		head.Body = get.Body
		get.Header.Del("Date")
		head.Header.Del("Date")
		require.Equal(t, get, head, c.call)
	}
	running := h.trigger("1", webtrigger.TriggerRequest{})
	for _, id := range []int64{3, running.ID} {
		head := h.do(fmt.Sprintf("HEAD /runs/%d/events", id), "")
		require.Equal(t, http.StatusOK, head.Status)
		require.Empty(t, head.Body)
	}
}

func TestLargeBodies(t *testing.T) {
	t.Parallel()
	h := setup(t, func(_ *host, o *admin.Options) { o.MaxBodyBytes = 100 })
	fits := `{"name":"n"` + strings.Repeat(" ", 88) + `}`
	require.Len(t, fits, 100)
	require.Equal(t, http.StatusCreated, h.do("POST /assistants/1/keys", fits).Status)
	a := h.do("POST /assistants/1/keys", fits+" ")
	require.Equal(t, http.StatusRequestEntityTooLarge, a.Status)
	require.Equal(t, "body_too_large", a.problem().Code)

	chunked := newRequest(t, "POST", h.url+"/assistants/1/keys", fits+" ")
	chunked.Body, chunked.ContentLength = io.NopCloser(strings.NewReader(fits+" ")), -1
	require.Equal(t, http.StatusRequestEntityTooLarge, h.send(chunked).StatusCode)

	trigger := `{"message":"` + strings.Repeat("m", 200) + `"}`
	require.Equal(t, http.StatusAccepted, h.do("POST /assistants/1/test-trigger", trigger).Status, "a trigger has the service's limit")
}

func TestAssistants_notListedByHost_areThoseOfTheStore(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.do("POST /assistants/a~b/keys", `{"name":"n"}`)
	first := h.do("GET /assistants?limit=2", "").decode()
	require.Equal(t, []any{
		map[string]any{"id": "1", "name": nil},
		map[string]any{"id": "2", "name": nil},
	}, first["items"])
	second := h.do("GET /assistants?limit=2&cursor="+first["next"].(string), "").decode()
	require.Equal(t, []any{map[string]any{"id": "a~b", "name": nil}}, second["items"])
	require.Nil(t, second["next"])
	require.Nil(t, h.do("GET /assistants?limit=3", "").decode()["next"])
	require.Equal(t, `{"items":[],"next":null}`, h.do("GET /tools", "").Body)
}

// TestBrokenParts has the store and the host's lists fail.
func TestBrokenParts(t *testing.T) {
	t.Parallel()
	const inner = "dial tcp 10.0.0.7: secret internals"
	for _, c := range []struct {
		err    error
		status int
	}{
		{errors.New(inner), http.StatusInternalServerError},
		{errors.Join(errors.New(inner), webtrigger.ErrUnavailable), http.StatusServiceUnavailable},
	} {
		h := setup(t, func(h *host, o *admin.Options) {
			h.front = failing{h.store, c.err}
			o.Assistants = func(context.Context) ([]admin.Assistant, error) { return nil, c.err }
			o.Tools = func(context.Context) ([]admin.Tool, error) { return nil, c.err }
		})
		for _, call := range []string{"GET /assistants", "GET /tools", "GET /runs", "GET /runs/1", "GET /runs/1/events", "POST /runs/1/cancel"} {
			a := h.do(call, "")
			require.Equal(t, c.status, a.Status, call)
			require.NotContains(t, a.Body, "dial")
			require.Equal(t, http.StatusUnauthorized, h.do(call, "", "X-User", "").Status, call)
		}
		require.Contains(t, h.log.String(), inner)
	}
}

type failing struct {
	webtrigger.Store
	err error
}

func (f failing) Owner(context.Context, webtrigger.ResourceKind, int64) (webtrigger.Owner, error) {
	return webtrigger.Owner{}, f.err
}

func (f failing) Runs(context.Context, webtrigger.RunQuery) ([]webtrigger.Run, error) {
	return nil, f.err
}

func TestRequestIDIsEchoed(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for _, call := range []string{"GET /runs", "GET /runs/1", "GET /nothing", "GET //"} {
		require.Equal(t, "abc-1", h.do(call, "", "X-Request-Id", "abc-1").Header.Get("X-Request-Id"), call)
		require.NotEqual(t, "a b", h.do(call, "", "X-Request-Id", "a b").Header.Get("X-Request-Id"), call)
	}
}

func TestTestCallbackArrives(t *testing.T) {
	t.Parallel()
	secret := webtrigger.NewSigningSecret()
	var got atomic.Int64
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verifier, err := client.NewVerifier([]string{secret.Reveal()}, nil)
		if err == nil {
			_, err = verifier.Receive(w, r)
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		got.Add(1)
		_, _ = io.WriteString(w, "thanks")
	}))
	defer receiver.Close()
	h := setup(t, func(h *host, _ *admin.Options) {
		roots := x509.NewCertPool()
		roots.AddCert(receiver.Certificate())
		h.service.Callback = webtrigger.CallbackOptions{
			Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots, Secrets: []webtrigger.SigningSecret{secret},
		}
	})
	a := h.do("POST /assistants/1/test-callback", `{"callback_url":"`+receiver.URL+`/hook"}`)
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	outcome := a.decode()
	require.Equal(t, "delivered", outcome["state"])
	require.Equal(t, json.Number("200"), outcome["http_status"])
	require.Equal(t, "thanks", outcome["response"])
	require.Equal(t, receiver.URL+"/hook", outcome["url"])
	require.NotNil(t, outcome["latency_ms"])
	require.NotNil(t, outcome["attempted_at"])
	require.Nil(t, outcome["error"])
	require.EqualValues(t, 1, got.Load())
}
