// Package store is the home of the adapters that implement
// [webtrigger.Store]. It holds no code; this page says how to choose one and how
// to write another.
//
// # Which one
//
//   - store/memstore keeps everything in the memory of one process and forgets
//     it when the process ends. It is for tests, for trying things out, and for
//     services whose triggers need not survive a restart.
//   - store/bunstore keeps everything in PostgreSQL, shared by any number of
//     processes, or in an SQLite file of one process. It stands on bun: the host
//     brings the *bun.DB and the driver.
//
// # Writing one
//
// The contract is the doc comments of [webtrigger.Store] and of its role
// interfaces, and nothing else. Three helps stand beside it:
//
//   - store/memstore is the reference. Each method is one critical section of a
//     few lines; where a doc comment leaves a question, do as it does.
//   - store/storetest is the conformance suite. A store that passes
//     storetest.Run, also under the race detector, is a store.
//   - The texts that readers see are the root package's: the functions beside
//     [webtrigger.Event] and [webtrigger.Outcome] make them. A store that writes
//     a sentence of its own does too much.
//
// Most of the work is to make each method one atomic transition on your
// database. Four places deserve the care:
//
//   - A write under a lease compares state, token and expiry in the statement
//     that writes, against the database's clock.
//   - A run ends in one place. FinishRun, RequestStop, RequeueRun and SweepRuns
//     all lead to the same terminal transition: state, result, last event, owed
//     callback.
//   - Event ids become visible in their order. A counter taken under the
//     conversation's row lock does that; a database sequence does not.
//   - ClaimDelivery commits before its caller may send, and a commit whose answer
//     is lost counts as not begun for the caller and as begun for everyone else.
package store
