package storetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
	"github.com/webtrigger-go/webtrigger/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The reference passes: what the suite asks for can be had.
func TestReference(t *testing.T) {
	storetest.Run(t, func(*testing.T) webtrigger.Store { return memstore.New(nil) })
}
