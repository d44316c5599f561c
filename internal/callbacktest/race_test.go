// The race detector watches every step of the post-quantum key exchange, which would take most of the test's time.
//
//go:debug tlsmlkem=0

package callbacktest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/callbacktest"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRace(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	store := memstore.New(nil)
	callbacktest.Race(t, [callbacktest.Replicas]webtrigger.Store{store, store, store}, callbacktest.Runs(t))
}
