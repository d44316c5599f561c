package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), &out, counter{pause: time.Hour / 8}, "How many words are these?"))
		require.Contains(t, out.String(), `x_counting {"words":5}`)
		require.Contains(t, out.String(), `message_completed {"text":"There are 5 words."}`)
		require.True(t, strings.HasSuffix(out.String(), "completed: There are 5 words.\n"), out.String())
	})
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, counter{}, strings.Repeat("a ", 10_001)))
	require.True(t, strings.HasSuffix(out.String(), "failed: the text is too long for me\n"), out.String())
}

func TestItObeysItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(stop) })
		began := time.Now()
		_, err := counter{pause: time.Hour}.Run(ctx, &webtrigger.Task{Prompt: "a"}, func(webtrigger.EventType, any) error { return nil })
		require.ErrorIs(t, err, stop)
		require.Equal(t, time.Minute, time.Since(began))
	})
}

func TestJSON(t *testing.T) {
	t.Parallel()
	task := &webtrigger.Task{Prompt: "a b", Definition: &webtrigger.TaskDefinition{OutputType: webtrigger.OutputJSON}}
	result, err := counter{}.Run(t.Context(), task, func(webtrigger.EventType, any) error { return nil })
	require.NoError(t, err)
	require.Equal(t, `{"words":2}`, result.Text)
}
