// Package chaostest holds the campaign: three replicas under the load of ten assistants.
// The replicas are processes, one of them behind PgBouncer, and PostgreSQL has a
// synchronous and an asynchronous standby. Faults disturb them. A ledger outside of the
// product, synced to disk, records what happened. `make chaos` runs many rounds of each
// fault. There is nothing to import.
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
