package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/client"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	goleak.VerifyTestMain(m)
}

func deliver(rc *receiver, method, body string) int {
	w := httptest.NewRecorder()
	rc.ServeHTTP(w, httptest.NewRequest(method, "/", strings.NewReader(body)))
	return w.Code
}

func TestReceiver_repeatedCallback_actsOnce(t *testing.T) {
	t.Parallel()
	var acted atomic.Int64
	rc := &receiver{seen: map[string]bool{}, act: func(cb client.Callback) {
		if cb.RunKey == "a" && cb.Status == "completed" && *cb.ResultText == "done" {
			acted.Add(1)
		}
	}}
	codes := make([]int, 50)
	var all sync.WaitGroup
	for i := range codes {
		all.Go(func() {
			codes[i] = deliver(rc, http.MethodPost, `{"run_key":"a","status":"completed","result_text":"done","conversation_id":1}`)
		})
	}
	all.Wait()
	for _, code := range codes {
		require.Equal(t, http.StatusNoContent, code, "a repeated callback gets the same response")
	}
	require.EqualValues(t, 1, acted.Load())
}

func TestReceiver_severalRuns_actsOnEach(t *testing.T) {
	t.Parallel()
	var acted []string
	rc := &receiver{seen: map[string]bool{}, act: func(cb client.Callback) { acted = append(acted, cb.RunKey) }}
	for _, key := range []string{"a", "b", "a", "c", "b"} {
		require.Equal(t, http.StatusNoContent, deliver(rc, http.MethodPost, `{"run_key":"`+key+`","status":"failed"}`))
	}
	require.Equal(t, []string{"a", "b", "c"}, acted)
}

func TestReceiver_notACallback_isRejected(t *testing.T) {
	t.Parallel()
	rc := &receiver{seen: map[string]bool{}, act: func(client.Callback) { t.Error("acted") }}
	require.Equal(t, http.StatusMethodNotAllowed, deliver(rc, http.MethodGet, ""))
	for _, body := range []string{"", "{}", "[]", `{"run_key":""}`, `{"run_key":1}`, "no JSON", `"` + strings.Repeat("x", client.MaxCallback) + `"`} {
		require.Equal(t, http.StatusBadRequest, deliver(rc, http.MethodPost, body))
	}
}

func TestMadeCertificate(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.pem")
	certificate, err := loadOrMake("", "", file)
	require.NoError(t, err)
	ca, err := os.ReadFile(file)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))
	rc := &receiver{seen: map[string]bool{}, act: func(client.Callback) {}}
	server := httptest.NewUnstartedServer(rc)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	resp, err := client.Post(server.URL, "application/json", strings.NewReader(`{"run_key":"a"}`))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusNoContent, resp.StatusCode)

	_, err = loadOrMake(file, file, "")
	require.Error(t, err, "no key in it")
}
