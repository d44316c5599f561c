package wire_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

func TestPreferWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		lines   []string
		seconds int
		ok      bool
	}{
		{"no preference", nil, 0, false},
		{"plain", []string{"wait=5"}, 5, true},
		{"zero", []string{"wait=0"}, 0, true},
		{"quoted value", []string{`wait="5"`}, 5, true},
		{"white space", []string{" respond-async ,\twait = 5 "}, 5, true},
		{"upper case", []string{"Wait=5"}, 5, true},
		{"parameters", []string{"wait=5; foo=bar"}, 5, true},
		{"over the limit", []string{"wait=61"}, 60, true},
		{"over 64 bits", []string{"wait=99999999999999999999"}, 60, true},
		{"several headers", []string{"respond-async", "wait=5"}, 5, true},
		{"first of two", []string{"wait=5, wait=7"}, 5, true},
		{"comma inside of quotes", []string{`handling="lenient, wait=7", wait=5`}, 5, true},
		{"escaped quote inside of quotes", []string{`foo="a\", wait=7", wait=5`}, 5, true},
		{"semicolon inside of quotes", []string{`wait="5;x"`}, 0, false},
		{"unclosed quote", []string{`foo="a, wait=5`}, 0, false},
		{"parameter with that name", []string{"foo; wait=7, wait=5"}, 5, true},
		{"no value", []string{"wait"}, 0, false},
		{"negative", []string{"wait=-1"}, 0, false},
		{"fraction", []string{"wait=1.5"}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			seconds, ok := wire.PreferWait(http.Header{"Prefer": c.lines}, 60)
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.seconds, seconds)
		})
	}
}

func FuzzPreferWait(f *testing.F) {
	f.Add(`wait=5`)
	f.Add(`foo="a\",;", wait="7";b`)
	f.Fuzz(func(t *testing.T, line string) {
		seconds, ok := wire.PreferWait(http.Header{"Prefer": {line}}, 60)
		require.True(t, seconds >= 0 && seconds <= 60)
		require.True(t, ok || seconds == 0)
	})
}
