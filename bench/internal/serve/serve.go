// Package serve holds what the children serve: the product, the peers and the
// physical limits, each behind the same few lines.
package serve

import (
	"context"
	"encoding/json"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

// Config is the configuration that a parent sends to a child.
type Config struct {
	DSN     string // of a database of the child's own
	Store   Store  // of the product; "": Postgres
	Without Step   // the optimization that is disabled; "": none
	Workers int    // runs or callbacks at a time; 0: none is executed
	Clients int    // how many goroutines do the work of Do at a time
	Rows    int    // rows that exist before the measurement
	Rate    int    // events per second; 0: as fast as it goes
	Size    int    // bytes of an event
	Target  string // URL that callbacks go to
	Roots   []byte // PEM of the certificate authority that Target has
}

// Store names a store of the product.
type Store string

// The stores.
const (
	Memory   Store = "memory"
	Postgres Store = "" // the usual one
	SQLite   Store = "sqlite"
)

// Step names one of the product's optimizations on Postgres. Each can be disabled.
type Step string

// The steps.
const (
	Batches       Step = "batches"       // calls that come together share a statement and a commit
	Take          Step = "take"          // a free worker's own accept is already claimed
	Prepared      Step = "prepared"      // statements are planned once
	Notifications Step = "notifications" // other processes receive hints at once
)

// Makers returns every kind of child by its name.
func Makers() map[string]child.Maker {
	makers := map[string]child.Maker{}
	for name, kind := range map[string]func(context.Context, Config) (*child.Server, error){
		"webtrigger":           serveProduct,
		"webtrigger-stored":    serveProductStored,
		"webtrigger-pickup":    serveProductPickup,
		"webtrigger-drain":     serveProductDrain,
		"webtrigger-append":    serveProductAppend,
		"webtrigger-steps":     serveProductSteps,
		"webtrigger-emit":      serveProductEmit,
		"webtrigger-events":    serveProductEvents,
		"webtrigger-callbacks": serveProductCallbacks,
		"null":                 serveNull,
		"statement":            serveStatement,
		"select":               serveSelect,
		"insert":               serveInsert,
		"log":                  serveLog,
		"notify":               serveNotify,
		"idle":                 serveIdle,
		"loop":                 serveLoop,
		"post":                 servePost,
		"sink":                 serveSink,
		"river-insert":         serveRiverInsert,
		"river-tx":             serveRiverTx,
		"river-work":           serveRiverWork,
		"river-pickup":         serveRiverPickup,
		"river-drain":          serveRiverDrain,
		"a2a":                  serveA2A,
		"r3labs":               serveR3labs,
		"go-sse":               serveGoSSE,
	} {
		makers[name] = func(ctx context.Context, config []byte) (*child.Server, error) {
			var c Config
			if err := json.Unmarshal(config, &c); err != nil {
				return nil, err
			}
			return kind(ctx, c)
		}
	}
	return makers
}

// Key is the API key that every server accepts.
const Key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// poolSize is how many connections each server may have, product and peers
// alike.
const poolSize = 16
