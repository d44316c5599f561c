package serve

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

// deliveries is a store that counts the callbacks whose outcome is recorded.
type deliveries struct {
	webtrigger.Store
	delivered, others atomic.Int64
}

func (d *deliveries) FinishDelivery(ctx context.Context, lease webtrigger.DeliveryLease, end webtrigger.DeliveryOutcome) error {
	err := d.Store.FinishDelivery(ctx, lease, end)
	if err == nil && end.State == webtrigger.DeliveryDelivered {
		d.delivered.Add(1)
	} else {
		d.others.Add(1)
	}
	return err
}

// serveProductCallbacks has ended runs with pending callbacks, and sends them
// on Do: with the claims and the outcomes committed, under the guard.
func serveProductCallbacks(ctx context.Context, c Config) (*child.Server, error) {
	store, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	err = inParallel(256, c.Rows, func(int) error {
		lease, err := take(ctx, store, c.Target)
		if err != nil {
			return err
		}
		_, err = store.FinishRun(ctx, lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "done"}})
		return err
	})
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.Roots) {
		return nil, errors.New("no certificate authority")
	}
	counted := &deliveries{Store: store}
	svc, err := webtrigger.New(counted, nil, &webtrigger.Options{NoWorkers: true, Callback: webtrigger.CallbackOptions{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots, Workers: c.Workers, PerHost: c.Workers,
	}})
	if err != nil {
		return nil, err
	}
	return &child.Server{Do: func(_ context.Context, n int) (child.Counters, error) {
		began := time.Now()
		go func() { _ = svc.Work(ctx) }()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for counted.delivered.Load() < int64(n) {
			if counted.others.Load() > 0 {
				return nil, errors.New("a callback was not delivered")
			}
			<-tick.C
		}
		return child.Counters{"seconds": time.Since(began).Seconds()}, nil
	}}, nil
}
