// Receiver is a callback receiver: HTTPS, and idempotent on run_key, so that a
// callback that arrives twice (after a redelivery, say) acts once.
//
// Without -cert and -cert-key it makes a certificate authority that lives as
// long as the process, and writes its certificate to -ca for the sender:
//
//	go run ./examples/receiver -ca receiver-ca.pem
//	go run ./examples/server -callback-allow 127.0.0.0/8 -callback-ca receiver-ca.pem
//
// A trigger then names "callback_url": "https://127.0.0.1:8443/".
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// callback is the body of a callback.
type callback struct {
	RunKey         string  `json:"run_key"`
	Status         string  `json:"status"`
	StatusDetail   *string `json:"status_detail"`
	ResultText     *string `json:"result_text"`
	ErrorMessage   *string `json:"error_message"`
	ConversationID int64   `json:"conversation_id"`
	EventsURL      string  `json:"events_url"`
	CompletedAt    string  `json:"completed_at"`
}

// maxCallback bounds a callback's body: a result has at most 1 MiB, and JSON may
// escape every byte of it to six.
const maxCallback = 8 << 20

// receiver acts on each run once. A real one remembers the run keys where it
// keeps the effects, in the same transaction.
type receiver struct {
	act func(callback)

	mu   sync.Mutex
	seen map[string]bool
}

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "callbacks are POSTed", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCallback))
	if err != nil {
		http.Error(w, "the body did not arrive whole", http.StatusBadRequest)
		return
	}
	var cb callback
	if err := json.Unmarshal(body, &cb); err != nil || cb.RunKey == "" {
		http.Error(w, "this is no callback", http.StatusBadRequest)
		return
	}
	rc.mu.Lock()
	again := rc.seen[cb.RunKey]
	rc.seen[cb.RunKey] = true
	rc.mu.Unlock()
	if again {
		log.Printf("%s: seen before, nothing done", cb.RunKey)
	} else {
		rc.act(cb)
	}
	w.WriteHeader(http.StatusNoContent) // the same answer: the sender need not know
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8443", "listen address")
	certFile := flag.String("cert", "", "PEM file of the certificate; without it one is made")
	keyFile := flag.String("cert-key", "", "PEM file of the certificate's key")
	caFile := flag.String("ca", "receiver-ca.pem", "where to write the made authority's certificate")
	flag.Parse()
	if err := run(*addr, *certFile, *keyFile, *caFile); err != nil {
		log.Fatal(err)
	}
}

func run(addr, certFile, keyFile, caFile string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	certificate, err := loadOrMake(certFile, keyFile, caFile)
	if err != nil {
		return err
	}
	rc := &receiver{seen: make(map[string]bool), act: func(cb callback) {
		shown, _ := json.MarshalIndent(cb, "", "  ")
		log.Printf("run %s is %s\n%s", cb.RunKey, cb.Status, shown)
	}}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: rc, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(grace)
	}()
	log.Printf("receiving callbacks on https://%s/", listener.Addr())
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
