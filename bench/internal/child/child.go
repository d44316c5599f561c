// Package child runs the measured server in its own process. The program starts itself
// again, so that processor time and memory are measured separately from those of the
// load.
//
//	parent                                child
//	Start ── arguments: name, config ───► Main: build the server, listen twice
//	      ◄─ stdout: two addresses ──────
//	      ── requests of the load ──────► Server.Measured
//	      ── Counters, Do, Memory ──────► the control listener
//	Stop  ── kill ──────────────────────►
//
// A child ends with its parent, however that ends: its stdin ends then.
package child

import (
	"context"
	"crypto/tls"
	"net/http"
)

// Counters are numbers that a child counts, and answers of Do, by name.
type Counters map[string]float64

// Server is what a child serves.
type Server struct {
	// Measured gets the load. nil: nothing is served.
	Measured http.Handler

	// TLS makes the measured listener one for HTTPS. nil: plain HTTP.
	TLS *tls.Config

	// Counters is asked while the load is on. nil: there are none.
	Counters func() Counters

	// Do does a piece of work on the parent's word; n is how much of it. nil:
	// there is nothing to do.
	Do func(ctx context.Context, n int) (Counters, error)
}

// Maker makes the server of a child from its configuration, which is what the
// parent gave to Start, as JSON. ctx lasts as long as the child.
type Maker func(ctx context.Context, config []byte) (*Server, error)
