package streams_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	r3labs "github.com/r3labs/sse/v2"
	"github.com/stretchr/testify/require"
	gosse "github.com/tmaxmax/go-sse"
	"gopkg.in/cenkalti/backoff.v1"

	"github.com/webtrigger-go/webtrigger"
)

// event is what a reader makes of a frame.
type event struct {
	id   string // of the frame
	data string
}

// library is a reader of another project. It follows a stream until the server reports
// the end, and sends the events to got.
type library func(ctx context.Context, url string, got chan<- event) error

// Libraries of others, directly and behind nginx with its buffers on, read a run
// live: each event before the next one is made. The server restarts and all
// connections are cut in the middle, and still each event comes once, in order, and
// 204 ends it.
func TestLibraries(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	bases := map[string]string{"directly": "http://" + h.addr}
	if program := findNginx(t); program != "" {
		bases["behind nginx"] = startNginx(t, program, h.addr)
		bases["behind nginx by HTTP/1.0"] = bases["behind nginx"] + "/old"
	}
	libraries := map[string]library{"go-sse": readGoSSE, "r3labs": readR3labs}
	if dir := installNode(t); dir != "" {
		libraries["eventsource"] = eventSource(dir)
	}
	var followers []*follower
	for name, read := range libraries {
		for way, base := range bases {
			f := &follower{t: t, ctx: ctx, name: name + " " + way, got: make(chan event), ended: make(chan error, 1)}
			followers = append(followers, f)
			go func() { f.ended <- read(ctx, base+h.path(), f.got) }()
		}
	}
	next := func() {
		for _, f := range followers {
			f.next()
		}
	}
	next() // run_queued
	next() // run_started
	for n := range 30 {
		h.steps <- map[string]any{"n": n, "text": "line\r\nbreak \u2028 ü"}
		next() // before there is another
		switch n {
		case 9:
			h.restart()
		case 19:
			h.cut()
		}
	}
	require.Zero(t, h.noContent.Load())
	close(h.steps)
	next()
	log := h.log()
	require.True(t, log.Ended)
	for _, f := range followers {
		f.end(log.Events)
	}
	require.EqualValues(t, len(followers), h.noContent.Load())
}

// follower is a library that reads a stream.
type follower struct {
	t     *testing.T
	ctx   context.Context
	name  string
	got   chan event
	ended chan error
	all   []event
}

// next waits for the next event.
func (f *follower) next() {
	f.t.Helper()
	select {
	case e := <-f.got:
		f.all = append(f.all, e)
	case err := <-f.ended:
		require.FailNow(f.t, "it has given up", "%s after %d events: %v", f.name, len(f.all), err)
	case <-f.ctx.Done():
		require.FailNow(f.t, "nothing comes", "%s after %d events", f.name, len(f.all))
	}
}

// end waits until the library has ended by itself, and compares what it has read.
func (f *follower) end(want []webtrigger.Event) {
	f.t.Helper()
	select {
	case err := <-f.ended:
		require.NoError(f.t, err, f.name)
	case e := <-f.got:
		require.FailNow(f.t, "an event too many", "%s: %v", f.name, e)
	}
	require.Len(f.t, f.all, len(want), f.name)
	for i, e := range want {
		require.Equal(f.t, fmt.Sprint(e.ID), f.all[i].id, f.name)
		var shown struct {
			ID      int64           `json:"id"`
			Type    string          `json:"event_type"`
			Payload json.RawMessage `json:"payload"`
		}
		require.NoError(f.t, json.Unmarshal([]byte(f.all[i].data), &shown), f.name)
		require.Equal(f.t, e.ID, shown.ID, f.name)
		require.Equal(f.t, string(e.Type), shown.Type, f.name)
		require.JSONEq(f.t, string(e.Payload), string(shown.Payload), f.name)
	}
}

var errNoContent = errors.New("204")

// readGoSSE reads with github.com/tmaxmax/go-sse, which reconnects by itself and ends
// at any response that its validator rejects.
func readGoSSE(ctx context.Context, url string, got chan<- event) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := gosse.Client{
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		ResponseValidator: func(r *http.Response) error {
			if r.StatusCode == http.StatusNoContent {
				return errNoContent
			}
			return gosse.DefaultValidator(r)
		},
	}
	connection := client.NewConnection(request)
	connection.SubscribeMessages(func(e gosse.Event) {
		if e.Data != "" { // it makes an event of the retry line
			got <- event{e.LastEventID, e.Data}
		}
	})
	if err := connection.Connect(); !errors.Is(err, errNoContent) {
		return err
	}
	return nil
}

// readR3labs reads by github.com/r3labs/sse. It reconnects after a cut connection and
// after any other answer but 200; where a stream ends in good order it returns, and
// its caller connects again.
func readR3labs(ctx context.Context, url string, got chan<- event) error {
	client := r3labs.NewClient(url)
	client.Connection.Transport = &http.Transport{DisableKeepAlives: true}
	client.ReconnectStrategy = backoff.WithContext(backoff.NewConstantBackOff(100*time.Millisecond), ctx)
	over := false
	client.ResponseValidator = func(_ *r3labs.Client, r *http.Response) error {
		switch r.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusNoContent:
			over = true
			return backoff.Permanent(errNoContent)
		}
		return fmt.Errorf("status %d", r.StatusCode)
	}
	for ctx.Err() == nil {
		err := client.SubscribeRawWithContext(ctx, func(e *r3labs.Event) {
			if len(e.Data) > 0 { // as above
				got <- event{string(e.ID), string(e.Data)}
			}
		})
		if over {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
