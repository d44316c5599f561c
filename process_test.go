package webtrigger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/faultstore"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// patiently is a Runner that works for the given time and emits an event each second.
// It ends with its context.
func patiently(d time.Duration, cause *atomic.Value) webtrigger.RunnerFunc {
	return func(ctx context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		for i := range int(d / time.Second) {
			err := emit("x_step", map[string]int{"n": i})
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				cause.Store(context.Cause(ctx))
				return nil, context.Cause(ctx)
			}
			if err != nil {
				return nil, err
			}
		}
		return &webtrigger.Result{Text: "done"}, nil
	}
}

// other starts Work of another process on the store of b. It executes no runs.
func (b *bundle) other(store webtrigger.Store, opts webtrigger.Options) (stop func()) {
	opts.NoWorkers = true
	other := setupOn(b.t, store, nil, &opts)
	other.fake = true
	return other.work()
}

// requeues returns the reasons of a run's requeues.
func (b *bundle) requeues(run webtrigger.Run) (reasons []string) {
	b.t.Helper()
	page, err := b.store.Events(b.ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 10_000})
	require.NoError(b.t, err)
	for _, e := range page.Events {
		if e.Type == webtrigger.EventRunRequeued {
			var payload struct{ Reason string }
			require.NoError(b.t, json.Unmarshal(e.Payload, &payload))
			reasons = append(reasons, payload.Reason)
		}
	}
	return reasons
}

func TestProcess_storeUnavailable_endsNoRun(t *testing.T) {
	t.Parallel()
	stall, _ := stalled()
	for name, f := range map[string]fault{"errors": unavailable, "stalls": stall} {
		for _, outage := range []time.Duration{9 * time.Second, 120 * time.Second} {
			t.Run(name+" for "+outage.String(), func(t *testing.T) {
				var cause atomic.Value
				onFaulty(t, patiently(3*time.Minute, &cause), webtrigger.Options{Lease: 3 * time.Second}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
					front := faulty(store.behind)
					stopOther := b.other(front, webtrigger.Options{Lease: 3 * time.Second})
					stop := b.work()
					run := b.trigger("work")
					time.Sleep(10 * time.Second)
					store.set(f, faultstore.Writes...)
					front.set(f, faultstore.Writes...)
					time.Sleep(outage)
					store.set(nil, faultstore.Writes...)
					front.set(nil, faultstore.Writes...)
					time.Sleep(3*time.Minute + outage)
					stop()
					stopOther()
					require.Nil(b.t, cause.Load())
					ended := b.run(run.ID)
					require.Equal(b.t, webtrigger.RunCompleted, ended.Status, ended.StatusDetail)
					require.Equal(b.t, 1, ended.Attempts)
					require.Len(b.t, b.events(run), 2+180+1, "no event is lost")
				})
			})
		}
	}
}

// A process that alone cannot reach the store loses its runs to the others. Its Runner
// continues until it reaches the store again.
func TestProcess_cutOff_runIsSweptByAnother(t *testing.T) {
	var cause atomic.Value
	onFaulty(t, patiently(10*time.Minute, &cause), webtrigger.Options{Lease: 3 * time.Second}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stopOther := b.other(store.behind, webtrigger.Options{Lease: 8 * time.Second, MaxAttempts: 9})
		stop := b.work()
		run := b.trigger("work")
		time.Sleep(10 * time.Second)
		store.set(unavailable, faultstore.Writes...)
		time.Sleep(7 * time.Second) // less than a lease, since the process has been in contact, and a sweep
		swept := b.run(run.ID)
		require.Equal(b.t, webtrigger.RunTimedOut, swept.Status, "the limit of the swept process applies")
		require.Equal(b.t, "heartbeat timeout", swept.StatusDetail)
		require.Nil(b.t, cause.Load())
		store.set(nil, faultstore.Writes...)
		store.set(unavailable, "RegisterProcess")
		time.Sleep(2 * time.Second)
		require.Equal(b.t, webtrigger.ErrLeaseLost, cause.Load())
		store.set(nil, "RegisterProcess")
		time.Sleep(2 * time.Second)
		require.Equal(b.t, webtrigger.RunRunning, b.trigger("work").Status, "the process has registered again")
		require.Equal(b.t, 2, len(store.ids()))
		stop()
		stopOther()
	})
}

// With more attempts, the Runner stops when the lease ends, so that it does not overlap
// with another attempt. The outage uses up no attempt.
func TestProcess_leaseExpiresWithMoreAttempts_stopsAndRequeues(t *testing.T) {
	t.Parallel()
	stall, _ := stalled()
	for name, f := range map[string]fault{"errors": unavailable, "stalls": stall} {
		t.Run(name, func(t *testing.T) {
			var cause atomic.Value
			opts := webtrigger.Options{Lease: 9 * time.Second, MaxAttempts: 2, Workers: 1}
			onFaulty(t, patiently(time.Minute, &cause), opts, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
				stop := b.work()
				run := b.trigger("work")
				synctest.Wait()
				store.set(f, faultstore.Writes...)
				time.Sleep(9*time.Second - time.Millisecond)
				synctest.Wait()
				require.Nil(b.t, cause.Load())
				time.Sleep(2 * time.Millisecond)
				synctest.Wait()
				require.Equal(b.t, webtrigger.ErrLeaseLost, cause.Load())
				time.Sleep(30 * time.Second)
				require.Equal(b.t, webtrigger.RunRunning, b.run(run.ID).Status)
				store.set(nil, faultstore.Writes...)
				time.Sleep(15 * time.Second)
				require.Equal(b.t, []string{"heartbeat timeout"}, b.requeues(run))
				time.Sleep(2 * time.Minute)
				stop()
				require.Equal(b.t, webtrigger.RunCompleted, b.run(run.ID).Status)
				require.Equal(b.t, 1, b.run(run.ID).Attempts)
			})
		})
	}
}

// A claim whose answer is lost is returned and executed once. Its attempt does not count.
func TestClaimRuns_unknownOutcome_isReturned(t *testing.T) {
	t.Parallel()
	for name, make := range unknownOutcomes {
		t.Run(name, func(t *testing.T) {
			var executed atomic.Int32
			runner := func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
				executed.Add(1)
				return nil, nil
			}
			onFaulty(t, runner, webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
				runs := []webtrigger.Run{b.trigger("a"), b.trigger("b")}
				f, commit := make()
				store.set(f, "ClaimRuns")
				stop := b.work()
				time.Sleep(15 * time.Second)
				commit()
				store.set(nil, "ClaimRuns")
				time.Sleep(15 * time.Second)
				for _, run := range runs {
					require.Equal(b.t, webtrigger.RunCompleted, b.run(run.ID).Status)
					require.Equal(b.t, 1, b.run(run.ID).Attempts)
					require.Contains(b.t, b.requeues(run), "unacknowledged")
				}
				stop()
				require.EqualValues(b.t, 2, executed.Load())
			})
		})
	}
}

func TestTrigger_unknownOutcome_isExecutedOnce(t *testing.T) {
	t.Parallel()
	for name, make := range unknownOutcomes {
		t.Run(name, func(t *testing.T) {
			onFaulty(t, nil, webtrigger.Options{Workers: 1}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
				stop := b.work()
				f, commit := make()
				store.set(f, "CreateTrigger")
				_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "say x"})
				require.Error(b.t, err)
				store.set(nil, "CreateTrigger")
				commit()
				time.Sleep(5 * time.Second)
				run := b.run(1)
				require.Equal(b.t, webtrigger.RunCompleted, run.Status, "the only slot is free")
				require.Equal(b.t, 1, run.Attempts)
				require.Equal(b.t, []string{"unacknowledged"}, b.requeues(run))
				stop()
			})
		})
	}
}

func TestExecute_unknownOutcome_returnsErrorAndRun(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		run := b.trigger("say x")
		store.set(unanswered, "ClaimRuns")
		require.ErrorIs(b.t, b.svc.Execute(b.ctx, run.ID), webtrigger.ErrUnavailable)
		store.set(nil, "ClaimRuns")
		time.Sleep(3 * time.Second)
		require.Equal(b.t, webtrigger.RunQueued, b.run(run.ID).Status)
		require.Equal(b.t, []string{"unacknowledged"}, b.requeues(run))
		require.NoError(b.t, b.svc.Execute(b.ctx, run.ID))
		require.Equal(b.t, webtrigger.RunCompleted, b.run(run.ID).Status)
		require.Equal(b.t, 1, b.run(run.ID).Attempts)
	})
}

// A heartbeat must not return a claim whose answer is on its way, or was when the
// heartbeat was sent.
func TestHeartbeat_callInProgress_returnsNothing(t *testing.T) {
	t.Parallel()
	late := func(d time.Duration) fault { // a late answer
		return func(_ context.Context, do func() error) error {
			err := do()
			time.Sleep(d)
			return err
		}
	}
	later := func(d time.Duration) fault { // a late call
		return func(_ context.Context, do func() error) error {
			time.Sleep(d)
			return do()
		}
	}
	tests := map[string]struct{ claim, heartbeat fault }{
		"while the heartbeat is sent and compared":  {late(5 * time.Second), nil},
		"since the heartbeat was noted":             {late(5 * time.Second), later(1900 * time.Millisecond)},
		"until the heartbeat is compared":           {late(300 * time.Millisecond), late(900 * time.Millisecond)},
		"only between the note and the comparison":  {late(100 * time.Millisecond), later(1900 * time.Millisecond)},
		"over before the heartbeat, and executed":   {nil, late(1900 * time.Millisecond)},
		"in small steps against a small lease time": {late(time.Millisecond), late(time.Millisecond)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			runner := func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
				time.Sleep(700 * time.Millisecond)
				return nil, nil
			}
			onFaulty(t, runner, webtrigger.Options{Lease: 6 * time.Second, Workers: 100}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
				stop := b.work()
				store.set(test.claim, "ClaimRuns", "CreateTrigger")
				store.set(test.heartbeat, "RenewProcess")
				for i := range 60 {
					b.trigger("say x")
					if i%7 == 0 {
						b.svc.Wake()
					}
					time.Sleep(time.Duration(97+i) * time.Millisecond)
				}
				time.Sleep(20 * time.Second)
				stop()
				require.Zero(b.t, store.count("RequeueRun"))
				for id := range int64(60) {
					require.Equal(b.t, webtrigger.RunCompleted, b.run(id+1).Status)
				}
			})
		})
	}
}

// An execution whose claim another transition has ended stops.
func TestHeartbeat_claimEnded_losesExecution(t *testing.T) {
	var cause atomic.Value
	runner := func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		select { // without a write
		case <-time.After(time.Minute):
		case <-ctx.Done():
			cause.Store(context.Cause(ctx))
		}
		return nil, nil
	}
	onFaulty(t, runner, webtrigger.Options{Workers: 1}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		run := b.trigger("work")
		time.Sleep(5 * time.Second)
		_, err := store.behind.RequeueRun(b.ctx, store.held()[0].Lease, webtrigger.Requeue{Reason: webtrigger.RequeueShutdown})
		require.NoError(b.t, err)
		time.Sleep(3 * time.Second)
		require.Equal(b.t, webtrigger.ErrLeaseLost, cause.Load())
		time.Sleep(2 * time.Minute)
		require.Equal(b.t, webtrigger.RunCompleted, b.run(run.ID).Status, "it is claimed again")
		stop()
	})
}

// While the end of a run is stored and its answer is late, heartbeats find no claim.
func TestHeartbeat_endIsStored_keepsTheExecution(t *testing.T) {
	var log bytes.Buffer
	var ended, attempts atomic.Int32
	opts := webtrigger.Options{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Hooks: webtrigger.Hooks{
			Ended: func(context.Context, webtrigger.EndedInfo) { ended.Add(1) },
			Run: func(ctx context.Context, _ webtrigger.RunInfo) (context.Context, func(webtrigger.RunOutcome)) {
				return ctx, func(o webtrigger.RunOutcome) {
					if o.Run.Status == webtrigger.RunCompleted {
						attempts.Add(1)
					}
				}
			},
		},
	}
	onFaulty(t, nil, opts, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		store.set(once(func(_ context.Context, do func() error) error {
			require.NoError(b.t, do())
			time.Sleep(7 * time.Second)
			return webtrigger.ErrUnavailable
		}), "FinishRun")
		b.trigger("say x")
		time.Sleep(10 * time.Second)
		stop()
		require.EqualValues(b.t, 1, ended.Load())
		require.EqualValues(b.t, 1, attempts.Load())
		require.NotContains(b.t, log.String(), "lease lost")
	})
}

func TestProcess_cannotRegister_claimsNothing(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		store.set(unavailable, "RegisterProcess")
		first := b.trigger("say x")
		stop := b.work()
		require.ErrorIs(b.t, b.svc.Execute(b.ctx, first.ID), webtrigger.ErrUnavailable)
		time.Sleep(time.Minute)
		second := b.trigger("say x")
		require.Equal(b.t, webtrigger.RunQueued, second.Status)
		require.Zero(b.t, store.count("ClaimRuns")+store.count("SweepRuns"))
		store.set(nil, "RegisterProcess")
		time.Sleep(3 * time.Second)
		require.Equal(b.t, webtrigger.RunCompleted, b.run(first.ID).Status)
		require.Equal(b.t, webtrigger.RunCompleted, b.run(second.ID).Status)
		stop()
	})
}

// A registration whose answers are lost is one registration.
func TestProcess_registrationUnanswered_keepsItsID(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		store.set(unanswered, "RegisterProcess")
		stop := b.work()
		time.Sleep(time.Minute)
		require.Len(b.t, store.ids(), 1)
		store.set(nil, "RegisterProcess")
		time.Sleep(3 * time.Second)
		require.Equal(b.t, webtrigger.RunRunning, b.trigger("say x").Status)
		stop()
	})
}

func TestClaimRuns_processIsLost_registersAgain(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		require.NoError(b.t, b.svc.Execute(b.ctx, b.trigger("say x").ID))
		require.NoError(b.t, store.behind.RemoveProcess(b.ctx, store.ids()[0]))
		require.NoError(b.t, b.svc.Execute(b.ctx, b.trigger("say x").ID))
		require.Len(b.t, store.ids(), 2)
		stop := b.work()
		require.NoError(b.t, store.behind.RemoveProcess(b.ctx, store.ids()[1]))
		run := b.trigger("say x")
		time.Sleep(3 * time.Second)
		require.Equal(b.t, webtrigger.RunCompleted, b.run(run.ID).Status)
		stop()
	})
}

func TestExecute_repeatedly_registersOnce(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		for range 20 {
			require.NoError(b.t, b.svc.Execute(b.ctx, b.trigger("say x").ID))
			time.Sleep(7 * time.Second)
		}
		require.Equal(b.t, 1, store.count("RegisterProcess"))
		require.Zero(b.t, store.count("RemoveProcess"))
		require.LessOrEqual(b.t, store.count("RenewProcess"), 41)
		time.Sleep(31 * time.Second)
		require.Equal(b.t, 1, store.count("RemoveProcess"), "after a lease without a run")
		require.False(b.t, b.registered(store.ids()[0]))
	})
}

// registered reports whether a process has a row.
func (b *bundle) registered(id string) bool {
	b.t.Helper()
	renewed, err := b.store.(*faultyStore).behind.RenewProcess(b.ctx, webtrigger.Process{ID: id, Lease: time.Minute, MaxAttempts: 1})
	require.NoError(b.t, err)
	return renewed.Registered
}

func TestWork_ends_removesItsProcess(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		for range 2 {
			stop := b.work()
			b.trigger("say x")
			stop()
			require.False(b.t, b.registered(store.ids()[len(store.ids())-1]))
		}
		require.Len(b.t, store.ids(), 2)
		stop := b.work()
		run := b.trigger("hang")
		require.Equal(b.t, webtrigger.RunRunning, run.Status)
		other := b.store.(*faultyStore).ids()[2]
		require.True(b.t, b.registered(other))
		stop()
		require.False(b.t, b.registered(other))
	})
}

// An unknown claim of the last moment is returned before the process is removed.
func TestWork_endsWithUnknownClaim_returnsIt(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		time.Sleep(500 * time.Millisecond)
		store.set(unanswered, "CreateTrigger")
		_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "say x"})
		require.Error(b.t, err)
		stop()
		require.Equal(b.t, webtrigger.RunQueued, b.run(1).Status)
		require.Zero(b.t, b.run(1).Attempts)
		require.False(b.t, b.registered(store.ids()[0]))
	})
}

// The removal waits for a heartbeat that finds the claim.
func TestWork_endsWithUnknownClaimAndNoHeartbeat_returnsIt(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		time.Sleep(500 * time.Millisecond)
		store.set(unanswered, "CreateTrigger")
		_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "say x"})
		require.Error(b.t, err)
		store.set(unavailable, "RenewProcess")
		time.AfterFunc(5*time.Second, func() { store.set(nil, "RenewProcess") })
		stop()
		require.Equal(b.t, webtrigger.RunQueued, b.run(1).Status)
		require.False(b.t, b.registered(store.ids()[0]))
	})
}

func TestDrain_storeUnavailable_isBounded(t *testing.T) {
	t.Parallel()
	stall, _ := stalled()
	for name, f := range map[string]fault{"errors": unavailable, "stalls": stall} {
		t.Run(name, func(t *testing.T) {
			opts := webtrigger.Options{Lease: 9 * time.Second, DrainTimeout: 5 * time.Second, CancelGrace: 2 * time.Second, Workers: 3}
			onFaulty(t, nil, opts, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
				stop := b.work()
				runs := []webtrigger.Run{b.trigger("hang"), b.trigger("ignore"), b.trigger("emit hanging")}
				store.set(f, faultstore.Writes...)
				began := time.Now()
				stop()
				require.LessOrEqual(b.t, time.Since(began), 16*time.Second+20*time.Second, "the callbacks have up to 20 s more")
				require.GreaterOrEqual(b.t, time.Since(began), 16*time.Second, "the writes are repeated for one more lease")
				require.Equal(b.t, webtrigger.RunRunning, b.run(runs[0].ID).Status)
				store.set(nil, faultstore.Writes...)
				stopOther := b.other(store.behind, webtrigger.Options{Lease: 9 * time.Second})
				time.Sleep(30 * time.Second)
				stopOther()
				require.Equal(b.t, "heartbeat timeout", b.run(runs[0].ID).StatusDetail)
				time.Sleep(time.Minute) // the abandoned Runner returns
			})
		})
	}
}

func TestDrain_storeIsBackWithinALease_storesTheEnds(t *testing.T) {
	opts := webtrigger.Options{Lease: 30 * time.Second, DrainTimeout: 5 * time.Second}
	onFaulty(t, nil, opts, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		run := b.trigger("hang")
		synctest.Wait()
		store.set(unavailable, faultstore.Writes...)
		time.AfterFunc(25*time.Second, func() { store.set(nil, faultstore.Writes...) })
		began := time.Now()
		stop()
		require.Less(b.t, time.Since(began), 30*time.Second)
		require.Equal(b.t, "interrupted by shutdown", b.run(run.ID).StatusDetail)
		require.False(b.t, b.registered(store.ids()[0]))
	})
}

// Execute does not wait for the store without end once its context has ended. The
// heartbeats store the end later.
func TestExecute_contextEndsDuringOutage_isBounded(t *testing.T) {
	opts := webtrigger.Options{Lease: 9 * time.Second, CancelGrace: 2 * time.Second}
	var cause atomic.Value
	onFaulty(t, patiently(time.Hour, &cause), opts, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		run := b.trigger("work")
		ctx, cancel := context.WithCancel(b.ctx)
		done := make(chan error, 1)
		go func() { done <- b.svc.Execute(ctx, run.ID) }()
		synctest.Wait()
		store.set(unavailable, faultstore.Writes...)
		time.Sleep(4500 * time.Millisecond) // four more events
		began := time.Now()
		cancel()
		require.NoError(b.t, <-done)
		require.Equal(b.t, 11*time.Second, time.Since(began))
		require.Equal(b.t, webtrigger.ErrShutdown, cause.Load())
		store.set(nil, faultstore.Writes...)
		time.Sleep(4 * time.Second)
		require.Equal(b.t, "interrupted by shutdown", b.run(run.ID).StatusDetail)
		require.Len(b.t, b.events(run), 2+5+1, "no event is lost")
		time.Sleep(10 * time.Second)
		require.False(b.t, b.registered(store.ids()[0]))
	})
}

// An end that is postponed and then rejected is stored as an end without its content.
func TestExecute_postponedEndRejected_endsAsNotStored(t *testing.T) {
	opts := webtrigger.Options{Lease: 9 * time.Second, CancelGrace: 2 * time.Second}
	onFaulty(t, nil, opts, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		run := b.trigger("hang")
		ctx, cancel := context.WithTimeout(b.ctx, time.Second)
		defer cancel()
		store.set(unavailable, "FinishRun")
		require.NoError(b.t, b.svc.Execute(ctx, run.ID))
		store.set(once(failing(errors.New("disk error"))), "FinishRun")
		time.Sleep(6 * time.Second)
		require.Equal(b.t, notStored, b.run(run.ID).ErrorMessage)
	})
}

// A claim that is answered when its process is already lost is returned.
func TestClaimRuns_answeredAfterProcessIsLost_isReturned(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{Lease: 3 * time.Second, Workers: 1}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stopOther := b.other(store.behind, webtrigger.Options{Lease: 4 * time.Second})
		time.Sleep(5 * time.Second)
		run := b.trigger("say x")
		store.set(once(func(_ context.Context, do func() error) error {
			err := do()
			time.Sleep(9 * time.Second)
			return err
		}), "ClaimRuns")
		store.set(failing(webtrigger.ErrUnavailable), "RequeueRun")
		stop := b.work()
		time.Sleep(100 * time.Millisecond)
		store.set(unavailable, "RenewProcess")
		time.Sleep(6 * time.Second)
		store.set(nil, "RenewProcess")
		time.Sleep(6 * time.Second)
		require.Positive(b.t, store.count("RequeueRun"))
		require.Equal(b.t, webtrigger.RunTimedOut, b.run(run.ID).Status, "the sweep was first")
		store.set(nil, "RequeueRun")
		time.Sleep(2 * time.Second)
		require.Equal(b.t, webtrigger.RunRunning, b.trigger("say x").Status, "the only slot is free")
		stop()
		stopOther()
	})
}

const notStored = "The result could not be stored."

func TestFinishRun_rejected_endsAsNotStored(t *testing.T) {
	runner := func(_ context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		return &webtrigger.Result{Text: "x", Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleTool, Content: "y"}}}, nil
	}
	onFaulty(t, runner, webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		var n atomic.Int32
		store.set(func(_ context.Context, do func() error) error {
			if n.Add(1) <= 5 {
				return errors.New("no such type")
			}
			return do()
		}, "FinishRun")
		run := b.trigger("go")
		time.Sleep(3 * time.Second)
		stop()
		ended := b.run(run.ID)
		require.Equal(b.t, webtrigger.RunFailed, ended.Status)
		require.Equal(b.t, notStored, ended.ErrorMessage)
		messages, err := b.svc.Messages(b.ctx, webtrigger.MessageQuery{ConversationID: run.ConversationID})
		require.NoError(b.t, err)
		require.Len(b.t, messages, 1)
	})
}

func TestAppendEvents_rejected_endsAsNotStored(t *testing.T) {
	var cause atomic.Value
	onFaulty(t, patiently(time.Minute, &cause), webtrigger.Options{}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		store.set(failing(errors.New("no such type")), "AppendEvents")
		run := b.trigger("go")
		time.Sleep(5 * time.Second)
		require.Equal(b.t, webtrigger.ErrLeaseLost, cause.Load())
		require.Equal(b.t, notStored, b.run(run.ID).ErrorMessage)
		require.Equal(b.t, []string{"run_queued", "run_started", "run_failed"}, b.events(run))
		stop()
	})
}

// An end that the store does not accept at all keeps neither the slot nor the Runner.
// Heartbeats repeat it, and the process stays registered for it.
func TestFinishRun_alwaysRejected_isRepeatedByHeartbeats(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{Workers: 1}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		store.set(failing(errors.New("disk error")), "FinishRun")
		run := b.trigger("say x")
		time.Sleep(20 * time.Second)
		require.Equal(b.t, webtrigger.RunRunning, b.run(run.ID).Status)
		require.Equal(b.t, webtrigger.RunRunning, b.trigger("hang").Status, "the only slot is free")
		time.Sleep(2 * time.Minute)
		store.set(nil, "FinishRun")
		time.Sleep(3 * time.Second)
		require.Equal(b.t, notStored, b.run(run.ID).ErrorMessage)
		require.Empty(b.t, b.requeues(run))
		stop()
		require.False(b.t, b.registered(store.ids()[0]))
	})
}

// What is unsettled when Work ends is left to the sweep after a lease.
func TestDrain_unsettled_isLeftToTheSweep(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{Lease: 9 * time.Second}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		store.set(failing(errors.New("disk error")), "FinishRun")
		run := b.trigger("say x")
		time.Sleep(20 * time.Second)
		began := time.Now()
		stop()
		require.InDelta(b.t, 9, time.Since(began).Seconds(), 2)
		stopOther := b.other(store.behind, webtrigger.Options{Lease: 9 * time.Second})
		time.Sleep(30 * time.Second)
		stopOther()
		require.Equal(b.t, "heartbeat timeout", b.run(run.ID).StatusDetail)
	})
}

// A return that waits delays neither heartbeats nor other returns.
func TestSettle_writeStalls_delaysNoHeartbeat(t *testing.T) {
	stall, _ := stalled()
	onFaulty(t, nil, webtrigger.Options{Lease: 3 * time.Second}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		b.trigger("say x")
		store.set(once(unanswered), "ClaimRuns")
		store.set(once(stall), "RequeueRun")
		stop := b.work()
		time.Sleep(9 * time.Second)
		require.GreaterOrEqual(b.t, store.count("RenewProcess"), 8)
		require.Equal(b.t, 1, store.count("RequeueRun"))
		time.Sleep(6 * time.Second)
		require.Equal(b.t, webtrigger.RunCompleted, b.run(1).Status)
		stop()
	})
}

// partialSweep returns an error together with the runs that it changed.
type partialSweep struct {
	webtrigger.Store
	failed atomic.Int32
}

func (s *partialSweep) SweepRuns(ctx context.Context, sweep webtrigger.Sweep) ([]webtrigger.Run, error) {
	runs, err := s.Store.SweepRuns(ctx, sweep)
	s.failed.Add(1)
	return runs, errors.Join(err, errors.New("run 17: bad row"))
}

func TestSweep_someRunsFailed_reportsTheOthers(t *testing.T) {
	var mu sync.Mutex
	var ended []int64
	opts := webtrigger.Options{Lease: 3 * time.Second, Hooks: webtrigger.Hooks{Ended: func(_ context.Context, i webtrigger.EndedInfo) {
		mu.Lock()
		defer mu.Unlock()
		ended = append(ended, i.Run.ID)
	}}}
	store := &partialSweep{}
	wrap := func(s webtrigger.Store) webtrigger.Store { store.Store = s; return store }
	bubbleOn(t, wrap, nil, opts, func(b *bundle) {
		for range 150 { // more than a batch
			b.trigger("say x")
		}
		_, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{
			ProcessID: deadProcess(t, b.store, time.Second, 1), Token: webtrigger.NewToken(), Limit: 150,
		})
		require.NoError(b.t, err)
		stop := b.work()
		time.Sleep(10 * time.Second)
		stop()
		mu.Lock()
		defer mu.Unlock()
		require.Len(b.t, ended, 150)
	})
}

func TestSweep_storeUnavailable_pausesUpToALease(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{Lease: 4 * time.Second}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		time.Sleep(time.Minute)
		require.GreaterOrEqual(b.t, store.count("SweepRuns"), 60, "a quarter of the lease at most")
		store.set(unavailable, "SweepRuns")
		before := store.count("SweepRuns")
		time.Sleep(time.Minute)
		require.LessOrEqual(b.t, store.count("SweepRuns")-before, 33)
		require.GreaterOrEqual(b.t, store.count("SweepRuns")-before, 14, "a lease at most")
		store.set(nil, "SweepRuns")
		time.Sleep(4 * time.Second)
		before = store.count("SweepRuns")
		time.Sleep(time.Minute)
		require.GreaterOrEqual(b.t, store.count("SweepRuns")-before, 60)
		stop()
	})
}

// sweepTimes records when a process sweeps.
type sweepTimes struct {
	webtrigger.Store
	mu    sync.Mutex
	times []time.Time
}

func (s *sweepTimes) SweepRuns(ctx context.Context, sweep webtrigger.Sweep) ([]webtrigger.Run, error) {
	s.mu.Lock()
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	return s.Store.SweepRuns(ctx, sweep)
}

func TestSweep_severalProcesses_notAtTheSameTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		a, b := &sweepTimes{Store: store}, &sweepTimes{Store: store}
		var stops []func()
		for _, s := range []*sweepTimes{a, b} {
			process := setupOn(t, s, nil, nil)
			stops = append(stops, process.work())
		}
		time.Sleep(5 * time.Minute)
		for _, stop := range stops {
			stop()
		}
		same := 0
		for _, at := range a.times {
			for _, other := range b.times {
				if d := at.Sub(other).Abs(); d < time.Millisecond {
					same++
				}
			}
		}
		require.Greater(t, len(a.times), 60)
		require.Less(t, same, len(a.times)/10)
	})
}

// A grace without end added to a lease overflowed, so that the drain gave its writes up at
// once.
func TestDrain_longestGrace_storesTheEnds(t *testing.T) {
	opts := webtrigger.Options{CancelGrace: math.MaxInt64, Lease: math.MaxInt64, RunTimeout: math.MaxInt64, DrainTimeout: -1}
	runner := func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		<-ctx.Done()
		time.Sleep(time.Hour)
		return nil, context.Cause(ctx)
	}
	bubble(t, webtrigger.RunnerFunc(runner), opts, func(b *bundle) {
		run := b.trigger("x")
		stop := b.work()
		stop()
		require.Equal(t, "interrupted by shutdown", b.run(run.ID).StatusDetail)
	})
}
