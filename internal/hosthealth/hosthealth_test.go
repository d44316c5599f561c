package hosthealth_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/hosthealth"
)

const host = "example.com:443"

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fail reports n deliveries without an answer.
func fail(c *hosthealth.Circuit, n int, retry bool, at time.Time) {
	for range n {
		c.Report(host, hosthealth.Dead, retry, at)
	}
}

func TestCircuit_fiveFailures_holdBackRetries(t *testing.T) {
	t.Parallel()
	c := new(hosthealth.Circuit)
	fail(c, 4, false, start)
	require.Empty(t, c.Resting(start))
	require.True(t, c.Admit(host, start))
	fail(c, 1, true, start)
	require.Equal(t, []string{host}, c.Resting(start))
	require.False(t, c.Admit(host, start.Add(30*time.Second-1)))
	require.True(t, c.Admit("example.org:443", start), "another host")
}

func TestCircuit_anyAnswer_revivesTheHost(t *testing.T) {
	t.Parallel()
	c := new(hosthealth.Circuit)
	fail(c, 5, false, start)
	c.Report(host, hosthealth.Answered, false, start)
	require.Empty(t, c.Resting(start))
	fail(c, 4, false, start)
	require.True(t, c.Admit(host, start), "it counts from the beginning")
}

func TestCircuit_afterTheRest_admitsOneRetry(t *testing.T) {
	t.Parallel()
	c := new(hosthealth.Circuit)
	fail(c, 5, false, start)
	at := start
	for _, rest := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
		require.False(t, c.Admit(host, at.Add(rest-1)))
		at = at.Add(rest)
		require.Empty(t, c.Resting(at))
		require.True(t, c.Admit(host, at))
		require.False(t, c.Admit(host, at), "a second retry")
		require.Equal(t, []string{host}, c.Resting(at))
		fail(c, 1, false, at)
		require.False(t, c.Admit(host, at.Add(time.Hour)), "a first attempt decides no trial")
		fail(c, 1, true, at)
	}
}

func TestCircuit_trialThatShowsNothing_isRepeated(t *testing.T) {
	t.Parallel()
	c := new(hosthealth.Circuit)
	fail(c, 5, false, start)
	at := start.Add(30 * time.Second)
	require.True(t, c.Admit(host, at))
	c.Report(host, hosthealth.Silent, false, at)
	require.False(t, c.Admit(host, at), "a first attempt that shows nothing ends no trial")
	c.Report(host, hosthealth.Silent, true, at)
	require.True(t, c.Admit(host, at))
	c.Report(host, hosthealth.Answered, true, at)
	require.True(t, c.Admit(host, at))
	require.True(t, c.Admit(host, at))
}

// Callers choose the names of hosts, so memory has a bound.
func TestCircuit_manyHosts_keepsTheNewest(t *testing.T) {
	t.Parallel()
	c := new(hosthealth.Circuit)
	name := func(i int) string { return strconv.Itoa(i) + ".example.com:443" }
	const hosts = 20_000
	for i := range hosts {
		for range 5 {
			c.Report(name(i), hosthealth.Dead, false, start.Add(time.Duration(i)*time.Millisecond))
		}
	}
	at := start.Add(hosts * time.Millisecond)
	resting := c.Resting(at)
	require.LessOrEqual(t, len(resting), 4096)
	require.GreaterOrEqual(t, len(resting), 3072)
	require.False(t, c.Admit(name(hosts-1), at))
	require.True(t, c.Admit(name(0), at))

	c.Report(host, hosthealth.Dead, false, at.Add(2*time.Hour)) // the others have no recent outcome
	for i := range 4096 {
		c.Report(name(i), hosthealth.Dead, false, at.Add(2*time.Hour))
	}
	require.Empty(t, c.Resting(at))
}
