package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/webtrigger-go/webtrigger/client"
)

// A receiver rejects callbacks that the secret did not sign.
func ExampleVerifier() {
	verifier, err := client.NewVerifier([]string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		callback, err := verifier.Receive(w, r)
		switch {
		case errors.Is(err, client.ErrSignature), errors.Is(err, client.ErrStale):
			w.WriteHeader(http.StatusUnauthorized)
		case err != nil:
			w.WriteHeader(http.StatusBadRequest)
		default:
			fmt.Println(callback.RunKey, callback.Status) // store it before the response
		}
	})
	w := httptest.NewRecorder()
	receiver.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/callbacks", strings.NewReader(`{"status": "completed"}`)))
	fmt.Println(w.Code)
	// Output: 401
}

// TextCollector joins the pieces of a streamed message.
func ExampleTextCollector() {
	var text client.TextCollector
	for i, piece := range []string{`{"text": "Hello, "}`, `{"text": "world"}`} {
		text.Add(client.Event{ // of Client.Stream
			RunID: 7, Sequence: int64(i + 1), Type: "message_delta", Payload: json.RawMessage(piece),
		})
	}
	fmt.Println(text.Text(7))
	// Output: Hello, world false
}
