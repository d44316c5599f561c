package lanetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// historian is a Runner that keeps the histories that it got, by run.
type historian struct {
	mu  sync.Mutex
	got map[int64][]string
}

// Run answers with the message, after a transcript of a tool message and a note.
func (h *historian) Run(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.got == nil {
		h.got = make(map[int64][]string)
	}
	said := []string{}
	for _, m := range task.History {
		said = append(said, fmt.Sprintf("%s: %s", m.Role, m.Content))
	}
	h.got[task.Run.ID] = said
	return &webtrigger.Result{Text: "re " + task.Input.Message, Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleTool, Content: "found"}}}, nil
}

// unreliable is a store whose next reads of a history fail.
type unreliable struct {
	webtrigger.Store
	mu    sync.Mutex
	fails []error
	reads int
}

func (u *unreliable) History(ctx context.Context, query webtrigger.HistoryQuery) ([]webtrigger.Message, error) {
	u.mu.Lock()
	u.reads++
	var err error
	if len(u.fails) > 0 {
		err, u.fails = u.fails[0], u.fails[1:]
	}
	u.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return u.Store.History(ctx, query)
}

// service is a service for assistant 1.
func service(t *testing.T, store webtrigger.Store, runner webtrigger.Runner, opts webtrigger.Options) *webtrigger.Service {
	t.Helper()
	if opts.BaseURL == "" {
		opts.BaseURL = "https://app.example.com"
	}
	svc, err := webtrigger.New(store, runner, &opts)
	require.NoError(t, err)
	t.Cleanup(svc.CloseStreams)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	return svc
}

// executed triggers a run that continues a conversation (0: none) and executes it.
func executed(t *testing.T, svc *webtrigger.Service, message string, conversationID int64) webtrigger.Run {
	t.Helper()
	run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: message, ConversationID: conversationID})
	require.NoError(t, err)
	require.NoError(t, svc.Execute(t.Context(), run.ID))
	run, err = svc.RunByID(t.Context(), run.ID)
	require.NoError(t, err)
	return run
}

func TestTaskHistory_continuedRun_hasEarlierMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runner := &historian{}
		store := &unreliable{Store: memstore.New(nil)}
		svc := service(t, store, runner, webtrigger.Options{})
		first := executed(t, svc, "one", 0)
		require.Zero(t, store.reads, "a run that starts its conversation must not read a history")
		second := executed(t, svc, "two", first.ConversationID)
		third := executed(t, svc, "three", first.ConversationID)
		require.Empty(t, runner.got[first.ID])
		require.Equal(t, []string{"user: one", "tool: found", "assistant: re one"}, runner.got[second.ID])
		require.Equal(t, []string{"user: one", "tool: found", "assistant: re one", "user: two", "tool: found", "assistant: re two"}, runner.got[third.ID])
	})
}

func TestTaskHistory_beyondOptions_keepsNewestAndNoToolMessageFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runner := &historian{}
		svc := service(t, memstore.New(nil), runner, webtrigger.Options{History: webtrigger.HistoryOptions{MaxMessages: 5, MaxBytes: 1000}})
		first := executed(t, svc, "one", 0)
		executed(t, svc, "two", first.ConversationID)
		third := executed(t, svc, "three", first.ConversationID)
		require.Equal(t, []string{"assistant: re one", "user: two", "tool: found", "assistant: re two"}, runner.got[third.ID])
	})
}

func TestTaskHistory_storeUnavailable_isReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runner := &historian{}
		store := &unreliable{Store: memstore.New(nil)}
		svc := service(t, store, runner, webtrigger.Options{})
		first := executed(t, svc, "one", 0)
		store.fails = []error{webtrigger.ErrUnavailable, context.DeadlineExceeded}
		second := executed(t, svc, "two", first.ConversationID)
		require.Equal(t, webtrigger.RunCompleted, second.Status)
		require.Len(t, runner.got[second.ID], 3)
	})
}

func TestTaskHistory_readFails_failsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &unreliable{Store: memstore.New(nil)}
		svc := service(t, store, &historian{}, webtrigger.Options{})
		first := executed(t, svc, "one", 0)
		store.fails = []error{errors.New("secret detail")}
		second := executed(t, svc, "two", first.ConversationID)
		require.Equal(t, webtrigger.RunFailed, second.Status)
		require.Equal(t, "The earlier messages of the conversation could not be read.", second.ErrorMessage)
	})
}

// A run whose deadline passes during an outage of the store ends by its deadline.
func TestTaskHistory_deadlineDuringOutage_timesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &unreliable{Store: memstore.New(nil)}
		svc := service(t, store, &historian{}, webtrigger.Options{RunTimeout: 3 * time.Second})
		first := executed(t, svc, "one", 0)
		for range 1000 {
			store.fails = append(store.fails, webtrigger.ErrUnavailable)
		}
		second := executed(t, svc, "two", first.ConversationID)
		require.Equal(t, webtrigger.RunTimedOut, second.Status)
		require.Equal(t, "deadline exceeded", second.StatusDetail)
	})
}

func TestNew_negativeHistory_returnsError(t *testing.T) {
	t.Parallel()
	for _, h := range []webtrigger.HistoryOptions{{MaxMessages: -1}, {MaxBytes: -1}} {
		_, err := webtrigger.New(memstore.New(nil), &historian{}, &webtrigger.Options{History: h})
		require.ErrorContains(t, err, "History")
	}
}
