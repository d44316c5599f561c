// Package admin is how operators look after the Web Trigger channel over HTTP:
// a JSON API over the Go calls of [webtrigger.Service], for the host to mount
// behind its own session:
//
//	api, err := admin.New(svc, authorize, nil)
//	mux.Handle("/admin/api/", http.StripPrefix("/admin/api", api))
//
// [NewConsole] makes the web console: pages over this API, which it serves at
// api/ below them. A page asks the authorizer as the calls do that fill it.
//
//	console, err := admin.NewConsole(svc, authorize, &admin.ConsoleOptions{SignIn: "/login"})
//	mux.Handle("/admin/", http.StripPrefix("/admin", console))
//
// # Who may do what
//
// The [webtrigger.Authorizer] is the host's, and it is asked for every request
// before anything is read from its body. What it refuses looks absent, byte for
// byte. A call that names a key, a task, a run or a delivery is looked up first,
// so that the authorizer learns whose it is.
//
//	call                                          action              about
//	GET  /assistants                              assistants.read     all
//	GET  /tools                                   tasks.read          all
//	GET  PUT /assistants/{id}/channel             channel.read .write the assistant
//	GET  POST /assistants/{id}/keys               keys.read    .write the assistant
//	POST /keys/{id}/rotate                        keys.write          the key's assistant
//	POST /keys/{id}/revoke                        keys.write          the key's assistant
//	GET  POST /assistants/{id}/tasks              tasks.read   .write the assistant
//	GET  PUT DELETE /tasks/{id}                   tasks.read   .write the task's assistant
//	POST /assistants/{id}/test-trigger            runs.write          the assistant
//	POST /assistants/{id}/test-callback           deliveries.write    the assistant
//	GET  /runs                                    runs.read           ?assistant_id=, else all
//	GET  /runs/{id}                               runs.read           the run's conversation
//	POST /runs/{id}/cancel                        runs.write          the run's conversation
//	GET  /runs/{id}/events                        events.read         the run's conversation
//	GET  /runs/{id}/deliveries                    deliveries.read     the run's conversation
//	POST /deliveries/{id}/redeliver               deliveries.write    the run's conversation
//
// A rotation takes {"grace_period": seconds}, an integer up to a year: so long the
// old key goes on, unless it ends sooner by itself. The answer is that of a creation
// with the old key, and its end, as replaced.
//
// # What is judged in which order
//
// 404 for the path, 405 with Allow, 403 for a write from another origin, the
// authorizer (401 or 404), 415, 413, 400, 422. Errors are application/problem+json.
// Lists are {"items": [...], "next": cursor or null}, newest first unless they
// say otherwise; cursors are opaque.
package admin
