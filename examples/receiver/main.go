// Receiver is a callback receiver over HTTPS. It is idempotent on run_key: a callback
// that arrives twice, for example after a redelivery, has one effect.
//
// Without -cert and -cert-key it creates a certificate authority for the life of the
// process, and writes its certificate to -ca for the sender:
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

	"github.com/webtrigger-go/webtrigger/client"
)

// receiver acts on each run once. A real receiver stores the run keys with the effects,
// in the same transaction.
type receiver struct {
	act func(client.Callback)

	mu   sync.Mutex
	seen map[string]bool
}

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "send callbacks with POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, client.MaxCallback))
	if err != nil {
		http.Error(w, "body incomplete or too large", http.StatusBadRequest)
		return
	}
	var cb client.Callback
	if err := json.Unmarshal(body, &cb); err != nil || cb.RunKey == "" {
		http.Error(w, "body is not a callback", http.StatusBadRequest)
		return
	}
	rc.mu.Lock()
	again := rc.seen[cb.RunKey]
	rc.seen[cb.RunKey] = true
	rc.mu.Unlock()
	if again {
		log.Printf("%s: repeated, ignored", cb.RunKey)
	} else {
		rc.act(cb)
	}
	w.WriteHeader(http.StatusNoContent) // the sender gets the same response for a repeated callback
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8443", "listen address")
	certFile := flag.String("cert", "", "PEM `file` of the certificate (default: created)")
	keyFile := flag.String("cert-key", "", "PEM `file` of the certificate's key")
	caFile := flag.String("ca", "receiver-ca.pem", "`file` for the certificate of the created authority")
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
	rc := &receiver{seen: make(map[string]bool), act: func(cb client.Callback) {
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
