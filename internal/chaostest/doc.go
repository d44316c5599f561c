// Package chaostest holds the campaign: three replicas under the load of ten assistants.
// The replicas are processes, one of them behind PgBouncer, and PostgreSQL has a
// synchronous and an asynchronous standby. Faults disturb them. A ledger outside of the
// product, synced to disk, records what happened. `make chaos` runs many rounds of each
// fault. There is nothing to import.
//
// A quarter of the triggers go to a front without workers, so that claims of queued runs
// matter, and not only triggers that their replica claims at once.
//
// Each of these mechanisms was undone. The campaign then failed:
//
//	undone                                           fault                               check
//	SKIP LOCKED, in all statements or only in        locked rows                         p99 of others
//	claims, in writes of runs, or of deliveries
//	SKIP LOCKED in sweeps                            kill -9, some of its rows locked    runs that are not locked are swept in time
//	the token of a claim in writes of its run        cut, SIGSTOP                        late effects, repeated
//	the return of a callback whose claim is in       claims of callbacks without an      callbacks != 1
//	doubt, and the lock under which it is returned   answer, that arrive late
//	no POST while the claim is in doubt              claims and outcomes of callbacks    callbacks != 1
//	                                                 that are lost
//	a sweeper is in contact for a lease              crash of Postgres                   not completed
//	heartbeats return unacknowledged claims          writes without an answer            runs end
//	idempotency keys                                 writes without an answer            created twice
//
// What a lost Runner writes is rejected twice: by the token of its claim, and, while the
// next claim has stored at least as many batches of events, by the number of the batch.
// The faults let the runs work first, so that the second check does not hide the first.
//
// The suite has one round of each fault:
//
//	fault                                  test of the suite
//	kill -9 of a replica                   TestSmoke, and crashtest.TestKillAtRandom, TestKillAtNamedPoints
//	kill -9, some of its rows locked       bunstore.TestSweepRuns_lockedRun_othersAreSwept
//	SIGSTOP of a replica                   TestSmoke, and crashtest.TestStoppedWorker_continued_writesNothing
//	cut between a replica and the store    TestSmoke, and outagetest.TestCutReplica_eachRunEndsOnce
//	restart of Postgres                    TestSmoke, and crashtest.TestPostgres_restartsDuringRuns_runsComplete
//	crash of Postgres                      outagetest.TestPausedStore_runsUnderWay_complete
//	stalled commits                        outagetest.TestStalledCommits_loseNothing
//	failover, promotion of a standby       outagetest.TestFailover_standbyWithoutLastCommits
//	writes of a replica without an answer  TestSmoke
//	claims of callbacks without an answer, TestSmoke, and webtrigger.TestClaimDelivery_unknownOutcome_sendsOnce
//	late, lost
//	full disk, read-only window            TestSmoke
//	clock jumps                            TestSmoke, and outagetest.TestClockJump_endsNothing
//	lost LISTEN                            TestSmoke, and bunstore.TestListener_lostConnection_listensAgain
//	locked rows                            TestSmoke
//	open host transactions                 TestSmoke, and outagetest.TestLockedConversation_endsNothing
//	slow and dead receivers                webtrigger.TestSlowReceiversHoldUpNoOther, TestDispatcher_manyDeadHostsOfOneAssistant_anotherIsSentAtOnce
package chaostest
