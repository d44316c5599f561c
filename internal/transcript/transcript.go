// Package transcript replays exchanges of requests and answers that stand in files,
// for tests.
package transcript

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the answers into the transcripts")

// Player plays one transcript.
type Player interface {
	// Exchange sends a request, written as in the transcript, and returns the answer as
	// it stands there.
	Exchange(request string) (answer string)

	// Step executes the command of a line that begins with !.
	Step(step string)
}

// Run plays the transcripts that a pattern names, each by a player of its own, and
// requires the answers that stand in them. With the flag -update it writes the
// answers instead.
//
// A transcript is a list of exchanges. Lines that begin with > are a request. Lines
// that begin with < are its answer. A line that begins with ! is a step. All other
// lines are comments.
func Run(t *testing.T, pattern string, newPlayer func(*testing.T) Player) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			script, err := os.ReadFile(file)
			require.NoError(t, err)
			played := Play(string(script), newPlayer(t))
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(played), 0o644))
			}
			want, got := strings.Split(string(script), "\n"), strings.Split(played, "\n")
			for i := range min(len(want), len(got)) {
				require.Equal(t, want[i], got[i], "%s:%d", file, i+1)
			}
			require.Len(t, got, len(want))
		})
	}
}

// Play returns a transcript with the answers that a player gets.
func Play(script string, p Player) string {
	var out, request strings.Builder
	flush := func() {
		if request.Len() == 0 {
			return
		}
		for line := range strings.Lines(p.Exchange(request.String())) {
			out.WriteString(strings.TrimRight("< "+line, " \n") + "\n")
		}
		request.Reset()
	}
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "<") {
			continue
		}
		if !strings.HasPrefix(line, ">") {
			flush()
		}
		out.WriteString(line)
		switch {
		case strings.HasPrefix(line, ">"):
			request.WriteString(strings.TrimPrefix(strings.TrimPrefix(line, ">"), " "))
		case strings.HasPrefix(line, "!"):
			p.Step(strings.TrimSpace(line[1:]))
		}
	}
	flush()
	return out.String()
}
