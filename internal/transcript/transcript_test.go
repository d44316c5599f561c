package transcript_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/transcript"
)

// echo answers with the request, and counts steps.
type echo struct{ steps []string }

func (e *echo) Exchange(request string) string { return strings.ToUpper(request) }
func (e *echo) Step(step string)               { e.steps = append(e.steps, step) }

func TestPlay_answers_areReplaced(t *testing.T) {
	t.Parallel()
	player := &echo{}
	played := transcript.Play("# remark\n> a\n>\n> b\n< old\n\n! step 1\n> c\n> d\n", player)
	require.Equal(t, "# remark\n> a\n>\n> b\n< A\n<\n< B\n\n! step 1\n> c\n> d\n< C\n< D\n", played)
	require.Equal(t, []string{"step 1"}, player.steps)
}
