package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/webtrigger-go/webtrigger/client"
)

// Follow a trigger to its end. The loop gets every event once and in order,
// however often the connection is lost.
func ExampleClient_Stream() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	c, err := client.New("https://app.example.com", "1f0e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for event, err := range c.Stream(ctx, 42) {
		var gap *client.GapError
		switch {
		case errors.As(err, &gap):
			fmt.Println("events were purged:", gap) // and the loop continues after them
		case err != nil:
			fmt.Println(err)
			return
		default:
			fmt.Println(event.ID, event.Type)
		}
	}
}
