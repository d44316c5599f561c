// Package store contains the implementations of [webtrigger.Store]. The package
// itself has no code. This page explains how to choose a store and how to write
// one.
//
// # How to choose
//
//   - store/memstore stores everything in the memory of one process. The data is
//     lost when the process ends. Use it for tests, for evaluation, and for
//     services whose triggers may be lost in a restart.
//   - store/bunstore stores everything in PostgreSQL, shared by any number of
//     processes, or in an SQLite file of one process. It is built on bun: the host
//     provides the *bun.DB and the driver.
//
// # Who may write one
//
// Anyone may implement [webtrigger.Store]. Methods may be added in minor
// versions and do not otherwise change. Embed [webtrigger.UnimplementedStore]:
// your store then still compiles after an upgrade, and a method that it does not
// have returns an error that wraps [errors.ErrUnsupported]. After an upgrade, read
// the changelog and run storetest.
//
// # How to write one
//
// The contract is the doc comments of [webtrigger.Store] and of its role
// interfaces. Three packages help:
//
//   - store/memstore is the reference. Each method is one critical section of a
//     few lines. If a doc comment leaves a question open, do what memstore does.
//   - store/storetest is the conformance suite. A store is complete when it passes
//     storetest.Run with the race detector.
//   - The root package defines all user-visible texts, in the functions beside
//     [webtrigger.Event] and [webtrigger.Outcome]. A store must not add its own.
//
// The main task is that each method is one atomic transition on your
// database. Four places need special care:
//
//   - A write under a lease compares state, token and expiry in the statement
//     that writes, against the database's clock.
//   - A run ends in one place. FinishRun, RequestStop, RequeueRun and SweepRuns
//     all lead to the same terminal transition: state, result, last event, pending
//     callback.
//   - Event ids become visible in their order. A counter taken under the
//     conversation's row lock does that; a database sequence does not.
//   - ClaimDelivery commits before its caller may send, and if the result of the
//     commit is lost, the caller must not send, while every other process must
//     treat the delivery as claimed.
package store
