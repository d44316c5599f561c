package child_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

func TestMain(m *testing.M) {
	if child.IsChild() {
		child.Main(map[string]child.Maker{"echo": echo, "broken": broken, "bare": bare})
		return
	}
	goleak.VerifyTestMain(m)
}

// echo answers with its configuration.
func echo(_ context.Context, config []byte) (*child.Server, error) {
	done := 0
	return &child.Server{
		Measured: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(config) }),
		Counters: func() child.Counters { return child.Counters{"done": float64(done)} },
		Do: func(_ context.Context, n int) (child.Counters, error) {
			if n < 0 {
				return nil, errors.New("that cannot be done")
			}
			done += n
			return child.Counters{"n": float64(n)}, nil
		},
	}, nil
}

func broken(context.Context, []byte) (*child.Server, error) {
	return nil, errors.New("broken on purpose")
}

func bare(context.Context, []byte) (*child.Server, error) { return &child.Server{}, nil }

func TestProcess(t *testing.T) {
	t.Parallel()
	p, err := child.Start("echo", map[string]int{"rows": 7})
	require.NoError(t, err)
	defer p.Stop()

	resp, err := http.Get("http://" + p.Addr)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.JSONEq(t, `{"rows": 7}`, string(body))

	answer, err := p.Do(3)
	require.NoError(t, err)
	assert.Equal(t, child.Counters{"n": 3}, answer)
	_, err = p.Do(-1)
	require.ErrorContains(t, err, "that cannot be done")
	counters, err := p.Counters()
	require.NoError(t, err)
	assert.Equal(t, child.Counters{"done": 3}, counters)

	profile := filepath.Join(t.TempDir(), "cpu.pprof")
	require.NoError(t, p.StartProfile())
	require.NoError(t, p.StopProfile(profile))
	info, err := os.Stat(profile)
	require.NoError(t, err)
	assert.Positive(t, info.Size())

	if _, ok := p.CPU(); !ok {
		return // the system does not report it
	}
	memory, err := p.Memory()
	require.NoError(t, err)
	assert.Greater(t, memory, 1e6)
}

func TestBareServer(t *testing.T) {
	t.Parallel()
	p, err := child.Start("bare", nil)
	require.NoError(t, err)
	defer p.Stop()
	for _, ask := range []func() (child.Counters, error){p.Counters, func() (child.Counters, error) { return p.Do(1) }} {
		counters, err := ask()
		require.NoError(t, err)
		assert.Empty(t, counters)
	}
}

func TestChildThatDoesNotStart(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"broken", "no such"} {
		_, err := child.Start(name, nil)
		require.ErrorContains(t, err, "did not start", name)
	}
}

func TestFamilyCPU(t *testing.T) {
	t.Parallel()
	parent, name, ok := child.Parent(os.Getpid())
	if !ok {
		t.Skip("the system does not report it")
	}
	assert.Equal(t, os.Getppid(), parent)
	assert.NotEmpty(t, name)
	before, ok := child.FamilyCPU(os.Getpid())
	require.True(t, ok)
	p, err := child.Start("bare", nil)
	require.NoError(t, err)
	with, _ := child.FamilyCPU(os.Getpid())
	p.Stop()
	after, _ := child.FamilyCPU(os.Getpid())
	assert.GreaterOrEqual(t, with, before)
	assert.GreaterOrEqual(t, after+100*time.Millisecond, with, "a child that has ended still counts") // the kernel counts in ticks
	_, ok = child.FamilyCPU(1 << 30)
	assert.False(t, ok)
}
