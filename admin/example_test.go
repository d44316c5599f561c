package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func Example() {
	runner := webtrigger.RunnerFunc(func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
		return &webtrigger.Result{Text: "Done."}, nil
	})
	svc, err := webtrigger.New(memstore.New(nil), runner, nil)
	if err != nil {
		panic(err)
	}

	// The host decides who is signed in, and which access a user has.
	authorize := func(r *http.Request, access webtrigger.Access) error {
		if user, password, ok := r.BasicAuth(); !ok || user != "admin" || password != "correct horse" {
			return webtrigger.ErrUnauthenticated
		}
		return nil
	}
	api, err := admin.New(svc, authorize, nil)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/admin/api/", http.StripPrefix("/admin/api", api))

	r := httptest.NewRequest("GET", "/admin/api/assistants/1/channel", nil)
	r.SetBasicAuth("admin", "correct horse")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 200 {"assistant_id":"1","enabled":false,"allow_callback_urls":false}
}
