package memstore_test

import (
	"context"
	"fmt"
	"log"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// A store for tests and for a host that may lose its data with the process.
func ExampleNew() {
	svc, err := webtrigger.New(memstore.New(nil), nil, &webtrigger.Options{NoWorkers: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(svc.Ping(context.Background()))
	// Output: <nil>
}
