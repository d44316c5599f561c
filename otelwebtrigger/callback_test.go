package otelwebtrigger_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// claimed is a store on which another process has always claimed the delivery.
type claimed struct{ webtrigger.Store }

func (claimed) ClaimDelivery(context.Context, webtrigger.DeliveryLease) error {
	return webtrigger.ErrLeaseLost
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	url, reachable, got := receiver(t, http.StatusOK)
	failing, other, refused := receiver(t, http.StatusBadGateway)
	for name, c := range map[string]struct {
		url     string
		store   webtrigger.Store
		state   string
		status  int // 0: no answer
		problem string
	}{
		"delivered":  {url, memstore.New(nil), "delivered", 200, ""},
		"failed":     {failing, memstore.New(nil), "failed", 502, "status"},
		"unclaimed":  {url, claimed{memstore.New(nil)}, "unclaimed", 0, ""},
		"no address": {"https://127.0.0.1:" + closedPort(t) + "/", memstore.New(nil), "failed", 0, "connect"},
	} {
		p := newProcess(t)
		opts := reachable
		if c.url == failing {
			opts = other
		}
		svc := p.service(t, c.store, webtrigger.RunnerFunc(obedient), webtrigger.Options{Callback: opts})
		run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "go", CallbackURL: c.url})
		require.NoError(t, err, name)
		stop := work(t, svc)
		span := p.span(t, "POST")
		stop()
		attributes := attributesOf(span)
		require.Equal(t, c.state, attributes["webtrigger.callback.state"], name)
		require.Equal(t, run.Key, attributes["webtrigger.run.key"])
		how := map[string]any{"webtrigger.callback.state": c.state}
		if c.status != 0 {
			how["http.response.status_code"] = int64(c.status)
		}
		if c.problem != "" {
			how["error.type"] = c.problem
		}
		for _, key := range []string{"http.response.status_code", "error.type"} {
			require.Equal(t, how[key], attributes[key], name)
		}
		require.Equal(t, c.problem != "", span.Status.Code == codes.Error, name)
		require.Empty(t, span.Status.Description)
		points := p.metrics(t)["webtrigger.callback.duration"]
		require.Equal(t, how, points[0].attributes, name)
	}
	<-got
	<-refused
}

// closedPort returns a port on which no process listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// The span of a retry has its number, and host and port are separate attributes.
func TestCallbackOfARetry(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	_, ended := p.Service().Callback(t.Context(), webtrigger.CallbackInfo{
		Delivery: webtrigger.Delivery{Retry: 2, Host: "[2001:db8::1]:8443"}, Run: webtrigger.Run{TraceParent: outside},
	})
	ended(webtrigger.DeliveryOutcome{State: webtrigger.DeliveryDelivered, HTTPStatus: 204})
	span := p.span(t, "POST")
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", span.SpanContext.TraceID().String())
	require.Equal(t, int64(2), attributesOf(span)["http.request.resend_count"])
	require.Equal(t, "2001:db8::1", attributesOf(span)["server.address"])
	require.Equal(t, int64(8443), attributesOf(span)["server.port"])
}
