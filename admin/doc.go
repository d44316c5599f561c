// Package admin provides the HTTP API and the web console with which operators manage
// the Web Trigger channel. The API is a JSON API over the methods of
// [webtrigger.Service]. The host mounts it behind its own session:
//
//	api, err := admin.New(svc, authorize, nil)
//	mux.Handle("/admin/api/", http.StripPrefix("/admin/api", api))
//
// [NewConsole] returns the web console. Its pages use the same API, which the console
// serves at api/ below its own path. A page requires the same authorization as the
// calls that it makes.
//
//	console, err := admin.NewConsole(svc, authorize, &admin.ConsoleOptions{SignIn: "/login"})
//	mux.Handle("/admin/", http.StripPrefix("/admin", console))
//
// # Authorization
//
// The host provides the [webtrigger.Authorizer]. The handler calls it for every
// request before it reads the body. A denied request gets the same 404, byte for
// byte, as a resource that does not exist. If a call names a key, a task, a run or a
// delivery, the handler reads that resource first, so that the Authorizer receives
// its assistant.
//
//	call                                          action              about
//	GET  /assistants                              assistants.read     all
//	GET  /tools                                   tasks.read          all
//	GET  PUT /assistants/{id}/channel             channel.read .write the assistant
//	GET  PUT /assistants/{id}/signing-secrets     secrets.read .write the assistant
//	GET  POST /assistants/{id}/keys               keys.read    .write the assistant
//	GET  /keys                                    keys.read           ?assistant_id=, else all
//	GET  /keys/{id}                               keys.read           the key's assistant
//	POST /keys/{id}/rotate                        keys.write          the key's assistant
//	POST /keys/{id}/revoke                        keys.write          the key's assistant
//	GET  POST /assistants/{id}/tasks              tasks.read   .write the assistant
//	GET  /tasks                                   tasks.read          ?assistant_id=, else all
//	GET  PUT DELETE /tasks/{id}                   tasks.read   .write the task's assistant
//	POST /assistants/{id}/test-trigger            runs.write          the assistant
//	POST /assistants/{id}/test-callback           deliveries.write    the assistant
//	GET  /runs                                    runs.read           ?assistant_id=, else all
//	GET  /runs/counts                             runs.read           ?assistant_id=, else all
//	POST /runs/cancel /runs/repeat                runs.write          ?assistant_id=, else all
//	POST /runs/redeliver                          deliveries.write    ?assistant_id=, else all
//	GET  /runs/{id}                               runs.read           the run's conversation
//	POST /runs/{id}/cancel                        runs.write          the run's conversation
//	POST /runs/{id}/input                         runs.write          the run's conversation
//	GET  /queue                                   queue.read          all
//	GET  /conversations                           conversations.read  ?assistant_id=, else all
//	GET  /stats                                   stats.read          ?assistant_id=, else all
//	GET  /data                                    data.read           all
//	GET  /audit                                   audit.read          all
//	GET  /conversations/{id}                      conversations.read  the conversation
//	DELETE /conversations/{id}                    conversations.erase the conversation
//	GET  /conversations/{id}/messages             conversations.read  the conversation
//	GET  /runs/{id}/events                        events.read         the run's conversation
//	GET  /runs/{id}/deliveries                    deliveries.read     the run's conversation
//	GET  /deliveries /deliveries/counts           deliveries.read     ?assistant_id=, else all
//	POST /deliveries/redeliver                    deliveries.write    ?assistant_id=, else all
//	POST /deliveries/{id}/redeliver               deliveries.write    the run's conversation
//
// A rotation accepts {"grace_period": seconds}, an integer of at most one year. The
// old key stays valid for that time, but not beyond its own expiry. The response is
// that of a creation, with the old key and its expiry as replaced.
//
// The secrets of an assistant are set with {"secrets": ["whsec_…"], "keep_newest": false},
// the new one first. With keep_newest, the first of the current secrets stays as the last
// one: {"secrets": [new], "keep_newest": true} rolls a secret, and later {"secrets": [],
// "keep_newest": true} removes the old one. Responses have the number of secrets and the
// time at which they were set.
//
// A task is returned with an ETag. If a PUT has it as If-Match, the update replaces only
// that state of the task, and otherwise returns 412.
//
// # Lists and bulk calls
//
// q searches runs, in either case of letters: those whose subject, request id, error_message
// or status_detail contains it, and the one with this id or run_key. With
// [webtrigger.Options.SearchTexts], the caller's message, the beginning of the result and the
// values of metadata are searched too, and metadata.PATH=value selects runs by a value of their
// metadata. PATH has the keys and indexes of arrays joined by dots, as in
// metadata.customer.id=4711. A number is compared as it was written. Several such filters must
// all match. In the filter of a bulk call, they are {"metadata": {"customer.id": 4711}}.
//
// One call looks in the texts of at most 10,000 runs that match the other filters, for about 2
// seconds. So a page may have few runs or none, and next continues. "searched" has the number
// of the runs, the time at which the last of them was created, and the texts that were
// searched. All stored runs can be searched, also those from before SearchTexts was set. The
// counts of /runs/counts and of a dry run are those of one such call; "more" then reports that
// runs are left.
//
// Runs and deliveries are filtered by the same names in queries and in bulk calls. status,
// state and callback_state may be given several times in a query, and as an array in a body. "last" limits
// deliveries to the last one of each run. /runs/counts counts up to 1,000 runs of each
// status, /deliveries/counts the newest 10,000 deliveries by host and state; "more"
// reports that there are others.
//
// POST /runs/cancel, /runs/repeat, /runs/redeliver and /deliveries/redeliver accept {"ids": [...]}, at most
// 200, or {"filter": {...}}, and "dry_run". With dry_run, the response is the number of
// resources that the call would change: {"count", "more"}. Without it, the response has the
// result of each: done, conflict (the state does not allow it), not_found, or failed with
// a detail; created_id is the new run or delivery. One call changes at most 200. If next is
// not null, the same body with it as "cursor" continues. Without a status, a filter selects
// unfinished runs to cancel, failed and timed out runs to repeat, and callbacks that were
// not delivered; of each run it selects the last delivery only. /runs/redeliver selects runs,
// and sends their callbacks again.
//
// GET /stats counts the runs that ended between from and to, by default the last day, in
// steps of whole hours (step, in seconds). Durations are estimated within a fifth. Past
// hours are counted once and kept for 366 days, which is also the longest range. If complete is false, some are not counted yet; the
// next call continues. Errors are those of the newest 1,000 failed and timed out runs.
//
// GET /data returns how long data is kept (in seconds; null is forever), how much is stored
// and what was purged last. A number that is estimated is at least 10,000.
//
// # Audit log
//
// Each write has an entry in the audit log, in the same transaction, with the actor that
// the Authorizer has named ([webtrigger.SetActor]). A write that changes nothing has none.
// An entry never contains a secret. GET /audit filters by actor, object (kind and id,
// such as key/17) and time.
//
// # Checks and responses
//
// The handler checks a request in this order: 404 for the path, 405 with Allow, 403
// for a write from another origin, the Authorizer (401 or 404), 400 for the query, 415,
// 413, 400, 422. A query parameter that the call does not have returns 400.
// Errors are application/problem+json. Lists are {"items": [...], "next": cursor or
// null}, newest first unless stated otherwise. Messages are oldest first. Cursors are opaque.
package admin
