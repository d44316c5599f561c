package storetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

func question() webtrigger.InputRequest {
	return webtrigger.InputRequest{Question: "How much? <&\u2028>", Choices: []string{"ten", "<all> & \"more\""}, ExpiresIn: long}
}

// approval has arguments whose bytes a store must not change.
func approval() webtrigger.InputRequest {
	return webtrigger.InputRequest{Name: "approve/1", Question: "Approve?", Tool: "refund", ExpiresIn: long,
		Arguments: json.RawMessage(`{"b":1e22,"a":-0,"\u00e9":"\/é\u2028<","n":123456789012345678901234567890}`)}
}

func saysText(text string) webtrigger.InputAnswer {
	raw, _ := json.Marshal(text)
	return webtrigger.InputAnswer{Answer: raw, By: "Ada"}
}

func decides(decision webtrigger.Decision) webtrigger.InputAnswer {
	return webtrigger.InputAnswer{Decision: decision, Reason: "because", By: "Ada"}
}

// await makes a claimed run waiting.
func (b *rig) await(lease webtrigger.Lease, request webtrigger.InputRequest) webtrigger.Input {
	b.t.Helper()
	run, err := b.store.AwaitInput(b.ctx, lease, webtrigger.Await{Request: request, Ordinal: 1})
	b.NoError(err)
	b.Equal(webtrigger.RunWaiting, run.Status)
	return b.open(run.ID)
}

// asking starts a run that waits.
func (b *rig) asking(request webtrigger.InputRequest, changes ...change) webtrigger.Input {
	b.t.Helper()
	return b.await(b.start(changes...).Lease, request)
}

// open returns the request for which a run waits.
func (b *rig) open(runID int64) webtrigger.Input {
	b.t.Helper()
	open, err := b.store.OpenInputs(b.ctx, []int64{runID, absent})
	b.NoError(err)
	b.Len(open, 1)
	return open[runID]
}

func (b *rig) inputs(runID int64) []webtrigger.Input {
	b.t.Helper()
	inputs, err := b.store.Inputs(b.ctx, runID)
	b.NoError(err)
	return inputs
}

func (b *rig) answer(input webtrigger.Input, answer webtrigger.InputAnswer) (webtrigger.Run, error) {
	return b.store.AnswerInput(b.ctx, webtrigger.NewAnswer{RunID: input.RunID, InputID: input.ID, Answer: answer})
}

func (b *rig) answered(input webtrigger.Input, answer webtrigger.InputAnswer) webtrigger.Run {
	b.t.Helper()
	run, err := b.answer(input, answer)
	b.NoError(err)
	return run
}

// A run that waits for input is neither queued nor running. Its first answer requeues it.
func inputRules() []rule {
	return append(waitingRules(), append(answerRules(), inputEndRules()...)...)
}

func waitingRules() []rule {
	return []rule{
		{"a waiting run has its request, and its claim has ended", func(b *rig) {
			for _, request := range []webtrigger.InputRequest{question(), approval()} {
				claimed := b.start()
				b.append(claimed.Lease, steps(1, 1))
				run, err := b.store.AwaitInput(b.ctx, claimed.Lease, webtrigger.Await{Request: request, Ordinal: 3, Events: steps(2, 2)})
				b.NoError(err)
				b.Equal(webtrigger.RunWaiting, run.Status)
				b.Equal(1, run.Attempts)
				b.True(run.CompletedAt.IsZero())
				b.Equal(run, b.run(run.ID))
				input := b.open(run.ID)
				b.Positive(input.ID)
				b.Equal(webtrigger.Input{ID: input.ID, RunID: run.ID, Request: request, Ordinal: 3,
					CreatedAt: input.CreatedAt, ExpiresAt: input.CreatedAt.Add(long)}, input)
				b.Equal([]webtrigger.Input{input}, b.inputs(run.ID))
				read, err := b.store.Input(b.ctx, input.ID)
				b.NoError(err)
				b.Equal(input, read)
				events := b.events(run)
				b.Len(events, 6)
				b.sameEvent(webtrigger.InputRequestedEvent(input), events[5])
				b.holdsLog(run)
				b.rejectsWrites(claimed.Lease)
			}
			b.Empty(b.renew(worker, long).Claims)
			b.NoError(b.store.RemoveProcess(b.ctx, worker))
		}},
		{"a fenced lease makes no run waiting", func(b *rig) {
			claimed := b.start()
			b.await(claimed.Lease, question())
			for _, lease := range []webtrigger.Lease{claimed.Lease, {RunID: absent, Token: 1}, b.endedLease()} {
				_, err := b.store.AwaitInput(b.ctx, lease, webtrigger.Await{Request: question(), Ordinal: 1})
				b.leaseLost(err)
			}
			b.Len(b.inputs(claimed.Run.ID), 1)
		}},
		{"a batch that is stored already is not stored again", func(b *rig) {
			claimed := b.start()
			b.append(claimed.Lease, steps(1, 2))
			run, err := b.store.AwaitInput(b.ctx, claimed.Lease, webtrigger.Await{Request: question(), Ordinal: 1, Events: steps(1, 2)})
			b.NoError(err)
			b.Len(b.events(run), 5)
		}},
		{"a recorded stop decides instead", func(b *rig) {
			claimed := b.start(withCallback)
			b.stop(claimed.Run.ID, webtrigger.CancelStop("reason"))
			run, err := b.store.AwaitInput(b.ctx, claimed.Lease, webtrigger.Await{Request: question(), Ordinal: 1, Events: steps(1, 1)})
			b.NoError(err)
			b.Equal(webtrigger.RunCancelled, run.Status)
			b.Empty(b.inputs(run.ID))
			b.Len(b.deliveries(run.ID), 1)
			b.holdsLog(run)
		}},
		{"a waiting run is not claimed, and counts neither as queued nor as running", func(b *rig) {
			input := b.asking(question(), bounded(1))
			b.Equal(webtrigger.QueueState{Waiting: 1}, b.queue())
			b.Empty(b.claim(10))
			b.Empty(b.claimBy(worker, 1, input.RunID))
			b.accept(bounded(1))
			b.full(1)
			claimed, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: worker, Token: webtrigger.NewToken(), Limit: 10, MaxPerAssistant: 1})
			b.NoError(err)
			b.Len(claimed, 1)
			b.Empty(b.deliveries(input.RunID))
		}},
		{"runs are listed by the status waiting", func(b *rig) {
			first, second := b.asking(question()), b.asking(approval())
			queued, running := b.accept(), b.start()
			list := func(status webtrigger.RunStatus) []int64 {
				runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{status}, Page: webtrigger.Page{Limit: 10}})
				b.NoError(err)
				return each(runs, runID)
			}
			b.Equal([]int64{second.RunID, first.RunID}, list(webtrigger.RunWaiting))
			b.Equal([]int64{queued.ID}, list(webtrigger.RunQueued))
			b.Equal([]int64{running.Run.ID}, list(webtrigger.RunRunning))
			_, hash := b.key(assistant)
			grant, err := b.store.Authenticate(b.ctx, hash, first.RunID, 0)
			b.NoError(err)
			b.Equal(webtrigger.RunWaiting, grant.Run.Status)
		}},
		{"a waiting run keeps the head of its lane, and joins one later", func(b *rig) {
			for _, first := range []change{under("k"), saying("single")} {
				head := b.start(first)
				input := b.await(head.Lease, question())
				next := b.accept(in(head.Run.ConversationID))
				b.True(next.Behind)
				b.Empty(b.claim(10))
				b.answered(input, saysText("ten"))
				b.Equal([]int64{head.Run.ID}, each(b.claimBy(worker, 1, head.Run.ID), claimedID))
				b.holdsLog(b.run(head.Run.ID))
				b.stop(next.ID, webtrigger.CancelStop(""))
			}
		}},
		{"requests and answers that are read are copies", func(b *rig) {
			input := b.asking(approval())
			spoil := func(i webtrigger.Input) {
				copy(i.Request.Arguments, "####")
				if i.Answer != nil {
					i.Answer.Reason = "spoilt"
				}
			}
			spoil(b.open(input.RunID))
			spoil(b.inputs(input.RunID)[0])
			b.answered(input, decides(webtrigger.DecisionDeny))
			read, err := b.store.Input(b.ctx, input.ID)
			b.NoError(err)
			spoil(read)
			read = b.inputs(input.RunID)[0]
			b.Equal(approval(), read.Request)
			b.Equal("because", read.Answer.Reason)
		}},
	}
}

// endedLease returns the lease of a run that has ended.
func (b *rig) endedLease() webtrigger.Lease {
	claimed := b.start()
	b.finish(claimed.Lease, completed("Result"))
	return claimed.Lease
}

func answerRules() []rule {
	return []rule{
		{"an answer requeues the run, and the attempt is not counted", func(b *rig) {
			for _, c := range []struct {
				request webtrigger.InputRequest
				answer  webtrigger.InputAnswer
			}{{question(), saysText("<all> & \"more\" \u2028")}, {approval(), decides(webtrigger.DecisionDeny)}} {
				claimed := b.start(withCallback)
				run, err := b.store.AwaitInput(b.ctx, claimed.Lease, webtrigger.Await{Request: c.request, Ordinal: 1, Executed: 1500 * time.Microsecond})
				b.NoError(err)
				input := b.open(run.ID)
				back := b.answered(input, c.answer)
				b.Equal(webtrigger.RunQueued, back.Status)
				b.Zero(back.Attempts)
				b.Equal(back, b.run(run.ID))
				stored := b.inputs(run.ID)[0]
				b.False(stored.Answer.At.Before(input.CreatedAt))
				c.answer.At = stored.Answer.At
				input.Answer = &c.answer
				b.Equal(input, stored)
				events := b.events(back)
				b.Len(events, 4)
				b.sameEvent(webtrigger.InputReceivedEvent(stored), events[3])
				again := b.take(run.ID, long)
				b.Equal(1, again.Run.Attempts)
				b.Equal(1500*time.Microsecond, again.Executed)
				b.Equal(claimed.Input, again.Input)
				b.holdsLog(again.Run)
				b.Empty(b.deliveries(run.ID))
				b.ends(completed("Result"), b.finish(again.Lease, completed("Result")))
				b.holdsLog(b.run(run.ID))
			}
			open, err := b.store.OpenInputs(b.ctx, []int64{1, 2, 3})
			b.NoError(err)
			b.Empty(open)
		}},
		{"a claim without an earlier wait has no executing time, and neither has one after a requeue", func(b *rig) {
			claimed := b.start()
			b.Zero(claimed.Executed)
			_, err := b.store.AwaitInput(b.ctx, claimed.Lease, webtrigger.Await{Request: question(), Ordinal: 1, Executed: time.Second})
			b.NoError(err)
			b.answered(b.open(claimed.Run.ID), saysText("ten"))
			again := b.claim(1)[0]
			b.Equal(time.Second, again.Executed)
			b.requeue(again.Lease)
			b.Zero(b.claim(1)[0].Executed)
		}},
		{"a run may wait several times", func(b *rig) {
			run := b.accept()
			for i := range 3 {
				input := b.await(b.take(run.ID, long).Lease, question())
				b.Len(b.inputs(run.ID), i+1)
				b.answered(input, saysText(fmt.Sprint(i)))
			}
			for i, input := range b.inputs(run.ID) {
				b.Equal(fmt.Sprint(i), input.Answer.Text())
			}
			b.holdsLog(b.run(run.ID))
		}},
		{"the same answer again changes nothing, and another one is rejected", func(b *rig) {
			input := b.asking(approval())
			b.answered(input, decides(webtrigger.DecisionApprove))
			b.changesNothing(input.RunID, func() {
				again := decides(webtrigger.DecisionApprove)
				again.By = "Bob"
				b.Equal(webtrigger.RunQueued, b.answered(input, again).Status)
				for _, other := range []webtrigger.InputAnswer{decides(webtrigger.DecisionDeny), {Decision: webtrigger.DecisionApprove}, saysText("x")} {
					_, err := b.answer(input, other)
					b.ErrorIs(err, webtrigger.ErrAlreadyAnswered)
				}
			})
			b.Equal("Ada", b.inputs(input.RunID)[0].Answer.By)
			b.finish(b.claim(1)[0].Lease, completed("Result"))
			b.Equal(webtrigger.RunCompleted, b.answered(input, decides(webtrigger.DecisionApprove)).Status)
			_, err := b.answer(input, decides(webtrigger.DecisionDeny))
			b.ErrorIs(err, webtrigger.ErrAlreadyAnswered)
		}},
		{"of simultaneous answers, one is stored", func(b *rig) {
			for range 5 {
				input := b.asking(question())
				errs := b.together(16, func(i int) error {
					_, err := b.answer(input, saysText(fmt.Sprint(i)))
					return err
				})
				b.Equal(1, b.succeeded(errs, webtrigger.ErrAlreadyAnswered))
				for i, err := range errs {
					if err == nil {
						b.Equal(fmt.Sprint(i), b.inputs(input.RunID)[0].Answer.Text())
					}
				}
				b.Len(b.events(b.run(input.RunID)), 4)
			}
		}},
		{"an answer races with a cancellation, and one of them decides", func(b *rig) {
			for range 10 {
				input := b.asking(question(), withCallback)
				errs := b.together(2, func(i int) error {
					if i == 0 {
						_, err := b.store.RequestStop(b.ctx, input.RunID, webtrigger.CancelStop(""), nil)
						return err
					}
					_, err := b.answer(input, saysText("ten"))
					return err
				})
				b.NoError(errs[0])
				if errs[1] != nil {
					b.ErrorIs(errs[1], webtrigger.ErrInputClosed)
					b.Nil(b.inputs(input.RunID)[0].Answer)
				}
				b.Equal(webtrigger.RunCancelled, b.run(input.RunID).Status)
				b.Len(b.deliveries(input.RunID), 1)
				b.holdsLog(b.run(input.RunID))
			}
		}},
		{"a request of another run, and an absent one, are not found", func(b *rig) {
			input, other := b.asking(question()), b.asking(question())
			for _, answer := range []webtrigger.NewAnswer{
				{RunID: other.RunID, InputID: input.ID}, {RunID: absent, InputID: input.ID}, {RunID: input.RunID, InputID: absent}} {
				answer.Answer = saysText("ten")
				_, err := b.store.AnswerInput(b.ctx, answer)
				b.notFound(err)
			}
			_, err := b.store.Input(b.ctx, absent)
			b.notFound(err)
			b.Empty(b.inputs(absent))
			b.Nil(b.open(input.RunID).Answer)
		}},
		{"an answer of the maximum size is kept", func(b *rig) {
			input := b.asking(question())
			text := strings.Repeat("ü<", webtrigger.MaxAnswerBytes/4)
			b.answered(input, saysText(text))
			b.Equal(text, b.inputs(input.RunID)[0].Answer.Text())
		}},
	}
}

func inputEndRules() []rule {
	brief := func(r webtrigger.InputRequest) webtrigger.InputRequest {
		r.ExpiresIn = brief
		return r
	}
	return []rule{
		{"a cancellation ends a waiting run at once", func(b *rig) {
			input := b.asking(question(), withCallback)
			run := b.stop(input.RunID, webtrigger.CancelStop("reason"))
			b.ends(webtrigger.Outcome{Status: webtrigger.RunCancelled, StatusDetail: "reason"}, run)
			b.Equal(1, run.Attempts)
			b.Len(b.deliveries(run.ID), 1)
			b.holdsLog(run)
			_, err := b.answer(input, saysText("ten"))
			b.ErrorIs(err, webtrigger.ErrInputClosed)
			b.Zero(b.queue())
		}},
		{"a later trigger may interrupt a waiting run", func(b *rig) {
			input := b.asking(question(), under("k"), bounded(2))
			behind := b.accept(under("k"))
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), onBusy(webtrigger.BusyInterrupt)))
			b.NoError(err)
			b.Equal([]int64{input.RunID, behind.ID}, each(accepted.Interrupted, runID))
			b.Equal(webtrigger.RunCancelled, b.run(input.RunID).Status)
			b.holdsLog(b.run(input.RunID))
			b.Equal([]int64{accepted.Run.ID}, each(b.claim(10), claimedID))
		}},
		{"a waiting run whose request has expired is swept, and frees its lane", func(b *rig) {
			input := b.asking(brief(question()), under("k"), withCallback)
			next := b.accept(under("k"))
			still := b.asking(question())
			b.past(input.ExpiresAt)
			_, err := b.answer(input, saysText("ten"))
			b.ErrorIs(err, webtrigger.ErrInputClosed)
			swept := b.sweep(webtrigger.Sweep{})
			b.Equal([]int64{input.RunID}, each(swept, runID))
			b.ends(webtrigger.InputTimeout(), swept[0])
			b.Equal("input timeout", swept[0].StatusDetail)
			b.Len(b.deliveries(input.RunID), 1)
			b.holdsLog(b.run(input.RunID))
			b.Equal(webtrigger.RunWaiting, b.run(still.RunID).Status)
			b.Equal([]int64{next.ID}, each(b.claim(10), claimedID))
		}},
		{"an expired approval with DenyOnExpiry counts as denied", func(b *rig) {
			request := brief(approval())
			request.DenyOnExpiry = true
			input := b.asking(request)
			b.past(input.ExpiresAt)
			swept := b.sweep(webtrigger.Sweep{})
			b.Equal([]int64{input.RunID}, each(swept, runID))
			b.Equal(webtrigger.RunQueued, swept[0].Status)
			stored := b.inputs(input.RunID)[0]
			b.True(webtrigger.ExpiredAnswer().Same(*stored.Answer))
			b.Empty(stored.Answer.By)
			b.sameEvent(webtrigger.InputReceivedEvent(stored), b.events(swept[0])[3])
			b.Equal(1, b.claim(1)[0].Run.Attempts)
		}},
		{"a sweep ends at most its limit of waiting runs, the earliest expiry first", func(b *rig) {
			var expired []int64
			var last time.Time
			for range 3 {
				input := b.asking(brief(question()))
				expired, last = append(expired, input.RunID), input.ExpiresAt
			}
			b.past(last)
			b.Equal(expired[:2], each(b.sweep(webtrigger.Sweep{Limit: 2}), runID))
			b.Equal(expired[2:], each(b.sweep(webtrigger.Sweep{Limit: 2}), runID))
		}},
		{"answers race with the sweep of an expired request, and one of them decides", func(b *rig) {
			for range 5 {
				input := b.asking(brief(question()))
				b.past(input.ExpiresAt.Add(-time.Millisecond))
				errs := b.together(4, func(i int) error {
					if i == 0 {
						_, err := b.store.SweepRuns(b.ctx, webtrigger.Sweep{ProcessID: sweeper, Limit: 100})
						return err
					}
					_, err := b.answer(input, saysText("ten"))
					return err
				})
				b.NoError(errs[0])
				b.succeeded(errs[1:], webtrigger.ErrInputClosed)
				b.past(input.ExpiresAt)
				b.sweep(webtrigger.Sweep{})
				run := b.run(input.RunID)
				b.Equal(b.inputs(run.ID)[0].Answer == nil, run.Status == webtrigger.RunTimedOut)
				b.holdsLog(run)
				if run.Status == webtrigger.RunQueued {
					b.stop(run.ID, webtrigger.CancelStop(""))
				}
			}
		}},
		{"the time in the queue counts from the answer", func(b *rig) {
			input := b.asking(question())
			b.outlast(fair)
			b.Empty(b.sweep(webtrigger.Sweep{MaxQueueTime: fair}))
			b.answered(input, saysText("ten"))
			b.Empty(b.sweep(webtrigger.Sweep{MaxQueueTime: fair}))
			b.Less(b.queue().OldestAge, fair)
		}},
		{"requests go with their run, and a waiting run is not erased", func(b *rig) {
			input := b.asking(question())
			b.conflict(b.store.EraseTrigger(b.ctx, input.RunID))
			b.answered(input, saysText("ten"))
			b.finish(b.claim(1)[0].Lease, completed("Result"))
			kept := b.asking(question())
			b.Positive(b.purge(webtrigger.Retention{Completed: time.Nanosecond}).Triggers)
			b.Empty(b.inputs(input.RunID))
			_, err := b.store.Input(b.ctx, input.ID)
			b.notFound(err)
			b.stop(kept.RunID, webtrigger.CancelStop(""))
			b.NoError(b.store.EraseTrigger(b.ctx, kept.RunID))
			b.Empty(b.inputs(kept.RunID))
		}},
	}
}
