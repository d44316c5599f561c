package storetest

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// The terminal transition happens exactly once per run and is one: outcome, last
// events, messages, the result's message, the terminal event, the completion
// time and the pending callback.
func finishRules() []rule {
	outcomes := []struct {
		name    string
		outcome webtrigger.Outcome
	}{
		{"completed", webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "Result"}},
		{"completed with an empty result", webtrigger.Outcome{Status: webtrigger.RunCompleted}},
		{"completed with usage", webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "{}",
			Usage: &webtrigger.Usage{InputTokens: 1 << 40, OutputTokens: 7}}},
		{"completed with usage of nothing", webtrigger.Outcome{Status: webtrigger.RunCompleted, Usage: &webtrigger.Usage{}}},
		{"failed", webtrigger.Outcome{Status: webtrigger.RunFailed, ErrorMessage: "Broken."}},
		{"failed with a detail and usage", webtrigger.Outcome{Status: webtrigger.RunFailed, StatusDetail: "interrupted by shutdown",
			ErrorMessage: "The run was interrupted.", Usage: &webtrigger.Usage{InputTokens: 3}}},
		{"cancelled", webtrigger.Outcome{Status: webtrigger.RunCancelled}},
		{"cancelled for a reason", webtrigger.Outcome{Status: webtrigger.RunCancelled, StatusDetail: "no longer needed"}},
		{"timed out", webtrigger.HeartbeatTimeout()},
	}
	var rules []rule
	for _, x := range outcomes {
		rules = append(rules, rule{"a run ends " + x.name, func(b *rig) {
			run := b.start(withCallback)
			ended := b.finish(run.Lease, x.outcome)
			b.ends(x.outcome, ended)
			want := run.Run
			want.Status, want.StatusDetail, want.ErrorMessage = x.outcome.Status, x.outcome.StatusDetail, x.outcome.ErrorMessage
			want.Result, want.Usage, want.CompletedAt = x.outcome.Result, x.outcome.Usage, ended.CompletedAt
			b.Equal(want, ended, "nothing else has changed")
			b.onePending(ended)
			b.Equal(x.outcome.Status == webtrigger.RunCompleted, len(b.messages(ended.ConversationID)) == 2)
		}})
	}
	return append(rules,
		rule{"the last events come before the terminal one", func(b *rig) {
			run := b.start()
			b.append(run.Lease, steps(1, 2))
			batch := steps(2, 3)
			ended, err := b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: failed("Broken."), Events: batch})
			b.NoError(err)
			events := b.events(ended)
			b.Len(events, 8)
			for i, e := range batch.Events {
				b.sameEvent(e, events[4+i])
			}
			b.ends(failed("Broken."), ended)
		}},
		rule{"messages are stored in order and the result comes after them", func(b *rig) {
			run := b.start()
			ended, err := b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed("Result"), Messages: []webtrigger.NewMessage{
				{Role: webtrigger.RoleAssistant, Content: "I look.", ToolCalls: lookups()}, {Role: webtrigger.RoleTool, Content: "found", ToolCallID: "b"},
				{Role: webtrigger.RoleUser, Content: ""}}})
			b.NoError(err)
			messages := b.messages(ended.ConversationID)
			b.Equal([][]webtrigger.ToolCall{nil, lookups(), nil, nil, nil},
				each(messages, func(m webtrigger.Message) []webtrigger.ToolCall { return m.ToolCalls }))
			b.Equal([]string{"", "", "b", "", ""}, each(messages, func(m webtrigger.Message) string { return m.ToolCallID }))
			b.Equal([]string{"Message", "I look.", "found", "", "Result"}, each(messages, content))
			b.Equal([]webtrigger.Role{"user", "assistant", "tool", "user", "assistant"},
				each(messages, func(m webtrigger.Message) webtrigger.Role { return m.Role }))
			for i, m := range messages {
				b.Equal([]int64{ended.ID, ended.ConversationID}, []int64{m.RunID, m.ConversationID})
				b.True(i == 0 || m.ID > messages[i-1].ID)
			}
		}},
		rule{"a run that does not complete keeps its messages and has no result message", func(b *rig) {
			ended, err := b.store.FinishRun(b.ctx, b.start().Lease, webtrigger.Finish{Outcome: failed("Broken."),
				Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleTool, Content: "found"}}})
			b.NoError(err)
			b.Equal([]string{"Message", "found"}, each(b.messages(ended.ConversationID), content))
		}},
		rule{"an empty result is a message too", func(b *rig) {
			ended := b.finish(b.start().Lease, completed(""))
			messages := b.messages(ended.ConversationID)
			b.Len(messages, 2)
			b.Equal(webtrigger.RoleAssistant, messages[1].Role)
			b.Empty(messages[1].Content)
		}},
		rule{"a callback is pending with the end of a run that has a URL, and not before", func(b *rig) {
			run := b.start(withCallback)
			b.append(run.Lease, steps(1, 1))
			b.Empty(b.deliveries(run.Run.ID))
			b.onePending(b.finish(run.Lease, completed("Result")))
		}},
		rule{"a run without a URL has no callback", func(b *rig) {
			b.Empty(b.deliveries(b.complete().ID))
			b.Empty(b.leased(10, long))
		}},
		rule{"a finish that is repeated returns the run as it ended", func(b *rig) {
			run := b.start(withCallback)
			ended := b.finish(run.Lease, completed("Result"))
			b.changesNothing(run.Run.ID, func() {
				for _, outcome := range []webtrigger.Outcome{completed("Result"), failed("Broken.")} {
					again, err := b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: outcome, Events: steps(9, 2)})
					b.NoError(err)
					b.Equal(ended, again)
				}
			})
		}},
		rule{"a run that ended otherwise is not finished", func(b *rig) {
			swept, requeued := b.strand(withCallback), b.start(withCallback)
			b.swept(swept.Run.ID)
			b.stop(requeued.Run.ID, webtrigger.CancelStop(""))
			b.requeue(requeued.Lease)
			earlier := b.start(withCallback)
			b.requeue(earlier.Lease)
			b.finish(b.take(earlier.Run.ID, long).Lease, completed("Result"))
			for _, run := range []webtrigger.ClaimedRun{swept, requeued, earlier} {
				b.changesNothing(run.Run.ID, func() {
					_, err := b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed("Late")})
					b.leaseLost(err)
				})
			}
			cancelled := b.stop(b.accept().ID, webtrigger.CancelStop(""))
			_, err := b.store.FinishRun(b.ctx, webtrigger.Lease{RunID: cancelled.ID}, webtrigger.Finish{Outcome: completed("Late")})
			b.leaseLost(err)
		}},
		rule{"of simultaneous finishes one is stored, and all return it", func(b *rig) {
			for range 10 {
				run := b.start(withCallback)
				returned := make([]webtrigger.Run, 16)
				b.all(b.together(16, func(i int) (err error) {
					returned[i], err = b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed(string(rune('A' + i))),
						Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleTool, Content: string(rune('A' + i))}}})
					return err
				}))
				ended := b.run(run.Run.ID)
				for _, run := range returned {
					b.Equal(ended, run)
				}
				b.Equal([]string{"Message", ended.Result, ended.Result}, each(b.messages(ended.ConversationID), content))
				b.holdsLog(ended)
				b.onePending(ended)
			}
		}},
		rule{"finish and requeue at once: the run ends or waits, never both", func(b *rig) {
			for range 10 {
				run := b.start(withCallback)
				errs := b.together(2, func(i int) (err error) {
					if i == 0 {
						_, err = b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed("Result")})
					} else {
						_, err = b.store.RequeueRun(b.ctx, run.Lease, shutdown(webtrigger.EventBatch{}))
					}
					return err
				})
				b.Equal(1, b.succeeded(errs, webtrigger.ErrLeaseLost))
				after := b.run(run.Run.ID)
				b.Equal(errs[0] == nil, after.Status == webtrigger.RunCompleted)
				b.Equal(errs[1] == nil, after.Status == webtrigger.RunQueued)
				b.holdsLog(after)
			}
		}},
		rule{"simultaneous ends of many runs are stored each under its run", func(b *rig) {
			runs := make([]webtrigger.ClaimedRun, 48)
			for i := range runs {
				runs[i] = b.start(withCallback)
			}
			ended := make([]webtrigger.Run, len(runs))
			b.all(b.together(len(runs), func(i int) (err error) {
				ended[i], err = b.store.FinishRun(b.ctx, runs[i].Lease, webtrigger.Finish{
					Outcome: completed(runs[i].Run.Key), Events: steps(1, i%3)})
				return err
			}))
			for i, run := range ended {
				b.Equal(runs[i].Run.ID, run.ID)
				b.Len(b.events(run), 3+i%3)
				b.ends(completed(runs[i].Run.Key), run)
				b.onePending(run)
			}
		}},
		rule{"an end returns the same run whether or not the caller has it", func(b *rig) {
			kinds := [][]change{nil, {withCallback}, {doing(&webtrigger.TaskDefinition{ID: 7, AssistantID: "1", Name: "Task", Instructions: "Do it."})}, {under("k")}}
			outcome := webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "Result", Usage: &webtrigger.Usage{InputTokens: 3, OutputTokens: 7}}
			for _, claimed := range []bool{true, false} {
				var runs []webtrigger.ClaimedRun
				for _, kind := range kinds {
					runs = append(runs, b.start(kind...))
				}
				runs = append(runs, b.start(), b.start()) // also a batch of only such runs
				ended := make([]webtrigger.Run, len(runs))
				for _, part := range [][2]int{{0, 4}, {4, 6}} {
					b.all(b.together(part[1]-part[0], func(i int) (err error) {
						i += part[0]
						end := webtrigger.Finish{Outcome: outcome, Events: steps(1, 2)}
						if claimed {
							end.Claimed = &runs[i].Run
						}
						ended[i], err = b.store.FinishRun(b.ctx, runs[i].Lease, end)
						return err
					}))
				}
				for i, run := range ended {
					want := runs[i].Run
					want.Status, want.Result, want.Usage = outcome.Status, outcome.Result, outcome.Usage
					want.CompletedAt, want.TaskDefinition = run.CompletedAt, nil
					b.Equal(want, run)
					b.ends(outcome, run)
					b.Equal(i == 1, len(b.deliveries(run.ID)) == 1)
				}
			}
		}},
		rule{"the end of one run leaves the others of its conversation as they are", func(b *rig) {
			one := b.start()
			two := b.accept(in(one.Run.ConversationID))
			b.finish(one.Lease, completed("Result"))
			two.Behind = false
			b.Equal(two, b.run(two.ID))
			b.ends(failed("Broken."), b.finish(b.take(two.ID, long).Lease, failed("Broken.")))
			b.ends(completed("Result"), b.run(one.Run.ID))
		}},
		rule{"a finish of everything at its largest is stored whole", func(b *rig) {
			run := b.start(withCallback)
			large := strings.Repeat("é<&>\n", 1<<20/6)
			batch := steps(1, 50)
			for i := range batch.Events {
				batch.Events[i].Payload = json.RawMessage(`{"text":"` + strings.Repeat("x", 20_000) + `"}`)
			}
			end := webtrigger.Finish{Outcome: completed(large), Events: batch,
				Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleTool, Content: large}, {Role: webtrigger.RoleTool, Content: "x"}}}
			ended, err := b.store.FinishRun(b.ctx, run.Lease, end)
			for errors.Is(err, webtrigger.ErrUnavailable) && b.ctx.Err() == nil { // a busy machine may need longer than the store's own deadline
				ended, err = b.store.FinishRun(b.ctx, run.Lease, end)
			}
			b.NoError(err)
			b.Equal([]string{"Message", large, "x", large}, each(b.messages(ended.ConversationID), content))
			b.exact(batch.Events[49].Payload, b.events(ended)[51].Payload)
			b.ends(completed(large), ended)
		}},
	)
}

// onePending checks that an ended run has one pending callback.
func (b *rig) onePending(run webtrigger.Run) {
	b.t.Helper()
	deliveries := b.deliveries(run.ID)
	b.Len(deliveries, 1)
	d := deliveries[0]
	b.Positive(d.ID)
	b.Equal(webtrigger.Delivery{
		ID: d.ID, RunID: run.ID, RunKey: run.Key, ConversationID: run.ConversationID, AssistantID: run.AssistantID,
		URL: run.CallbackURL, State: webtrigger.DeliveryPending, CreatedAt: d.CreatedAt, DueAt: d.CreatedAt,
	}, d)
}

// lookups are two tool calls of a message.
func lookups() []webtrigger.ToolCall {
	return []webtrigger.ToolCall{
		{ID: "a", Name: "search", Arguments: json.RawMessage(`{"text":"\u0000 <&>","n":1e400}`)},
		{ID: "b", Name: "read", Arguments: json.RawMessage(`{}`)},
	}
}
