package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/report"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
)

func callbackPath() path {
	return path{
		name:    "callback",
		about:   "n callbacks to one TLS host, 32 at a time",
		clients: 32,
		n:       2000,
		columns: []string{"callbacks/s", "server µs", "postgres µs"},
		variants: []variant{
			{"http.Client", callbacks("post", serve.Config{Store: serve.Memory})},
			{product, callbacks("webtrigger-callbacks", serve.Config{})},
			{"memory", callbacks("webtrigger-callbacks", serve.Config{Store: serve.Memory})},
		},
		goals: []report.Goal{{Figure: "callbacks/s", Of: product, Over: "http.Client", Is: report.AtLeast, Bound: 0.8}},
	}
}

// callbacks is a variant that sends callbacks to a receiver in a process of its
// own.
func callbacks(kind string, config serve.Config) func(context.Context, *rig) (report.Figures, error) {
	return func(ctx context.Context, r *rig) (report.Figures, error) {
		identity, err := newIdentity()
		if err != nil {
			return nil, err
		}
		sink, err := r.start("sink", serve.Config{Roots: identity})
		if err != nil {
			return nil, err
		}
		config := config
		config.Workers, config.Rows = r.clients, r.n
		config.Roots, config.Target = identity, "https://"+sink.Addr+"/hook"
		p, err := r.startOn(ctx, kind, config)
		if err != nil {
			return nil, err
		}
		return r.timed(p, "callbacks/s", r.n)
	}
}

// newIdentity returns a certificate for 127.0.0.1 that is its own authority, and
// its key, as PEM.
func newIdentity() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: certificate}, {Type: "PRIVATE KEY", Bytes: private}} {
		if err := pem.Encode(&out, block); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
