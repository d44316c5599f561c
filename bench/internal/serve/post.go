package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

// serveSink is the receiver of callbacks, over TLS. Its certificate comes as the
// configuration's Roots, with the key.
func serveSink(_ context.Context, c Config) (*child.Server, error) {
	certificate, err := tls.X509KeyPair(c.Roots, c.Roots)
	if err != nil {
		return nil, err
	}
	return &child.Server{
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}},
		Measured: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusNoContent)
		}),
	}, nil
}

// callback is a body as the product sends it.
const callback = `{"run_key":"f7d2c1a8-3b4e-4f5a-9c0d-1e2f3a4b5c6d","status":"completed","status_detail":null,"result_text":"done","error_message":null,"conversation_id":42,"events_url":"https://app.example.com/conversations/42/agent-events?run_id=17","completed_at":"2026-04-15T10:01:23+00:00"}`

// servePost sends callbacks with a bare http.Client that makes a connection for
// each. Do sends n.
func servePost(_ context.Context, c Config) (*child.Server, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.Roots) {
		return nil, errors.New("no certificate authority")
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
	return &child.Server{Do: func(ctx context.Context, n int) (child.Counters, error) {
		began := time.Now()
		err := inParallel(c.Workers, n, func(int) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Target, bytes.NewReader([]byte(callback)))
			if err != nil {
				return err
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				return err
			}
			if resp.StatusCode != http.StatusNoContent {
				return fmt.Errorf("answered %s", resp.Status)
			}
			return nil
		})
		return child.Counters{"seconds": time.Since(began).Seconds()}, err
	}}, nil
}
