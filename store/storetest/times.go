package storetest

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Times come from the store's clock, in UTC and cut to microseconds; the zero
// time means "not yet" or "never" and stays zero.
func timeRules() []rule {
	return []rule{
		{"every stamp is in UTC and cut to microseconds", func(b *rig) {
			key, _ := b.key(assistant)
			key, err := b.store.RevokeKey(b.ctx, key.ID)
			b.NoError(err)
			task := b.task(assistant)
			run := b.complete(withCallback, doing(&task))
			b.deliver()
			stored := b.record(run.ID)
			d := stored.Deliveries[0]
			stamps := []time.Time{key.CreatedAt, key.RevokedAt, task.CreatedAt, task.UpdatedAt,
				run.CreatedAt, run.StartedAt, run.CompletedAt, stored.Run.TaskDefinition.CreatedAt, stored.Run.TaskDefinition.UpdatedAt,
				stored.Conversation.CreatedAt, d.CreatedAt, d.DueAt, d.AttemptedAt, d.CompletedAt, stored.Run.Callback.At}
			for _, e := range stored.Events.Events {
				stamps = append(stamps, e.CreatedAt)
			}
			for _, m := range stored.Messages {
				stamps = append(stamps, m.CreatedAt)
			}
			for i, at := range stamps {
				b.False(at.IsZero(), "stamp %d", i)
				b.Equal(time.UTC, at.Location(), "stamp %d", i)
				b.Zero(at.Nanosecond()%1000, "stamp %d", i)
			}
		}},
		{"an expiry is kept in UTC, cut to microseconds", func(b *rig) {
			zone := time.FixedZone("zone", 5*3600+1800)
			expires := time.Date(2201, 12, 31, 23, 59, 59, 123_456_999, zone)
			key, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{
				AssistantID: assistant, Name: "Name", Prefix: "0123abcd", Hash: newHash(), ExpiresAt: expires})
			b.NoError(err)
			b.Equal(time.Date(2201, 12, 31, 18, 29, 59, 123_456_000, time.UTC), key.ExpiresAt)
			read, err := b.store.Key(b.ctx, key.ID)
			b.NoError(err)
			b.Equal(key, read)
		}},
		{"what has not happened has the zero time", func(b *rig) {
			key, _ := b.key(assistant)
			key, err := b.store.Key(b.ctx, key.ID)
			b.NoError(err)
			queued := b.run(b.accept(withCallback).ID)
			running := b.take(queued.ID, long)
			b.finish(running.Lease, completed("Result"))
			pending := b.deliveries(queued.ID)[0]
			sending := b.delivery(b.claimDelivery())
			for i, at := range []time.Time{key.ExpiresAt, key.RevokedAt, queued.StartedAt, queued.CompletedAt, running.Run.CompletedAt,
				pending.AttemptedAt, pending.CompletedAt, sending.CompletedAt} {
				b.Equal(time.Time{}, at, "time %d", i)
			}
		}},
		{"what happens later has no earlier time", func(b *rig) {
			run := b.complete(withCallback)
			b.deliver()
			stored := b.record(run.ID)
			d := stored.Deliveries[0]
			b.ordered(run.CreatedAt, run.StartedAt, run.CompletedAt, d.AttemptedAt, d.CompletedAt)
			b.ordered(stored.Conversation.CreatedAt, run.StartedAt, d.CreatedAt, d.AttemptedAt)
			b.ordered(each(stored.Events.Events, func(e webtrigger.Event) time.Time { return e.CreatedAt })...)
			b.ordered(each(stored.Messages, func(m webtrigger.Message) time.Time { return m.CreatedAt })...)
		}},
		{"a time that passes between two steps is seen in their stamps", func(b *rig) {
			run := b.accept(withCallback)
			b.past(run.CreatedAt)
			claimed := b.take(run.ID, long)
			b.past(claimed.Run.StartedAt)
			b.append(claimed.Lease, steps(1, 1))
			b.past(b.events(run)[2].CreatedAt)
			ended := b.finish(claimed.Lease, completed("Result"))
			b.True(ended.StartedAt.After(ended.CreatedAt))
			b.True(b.events(run)[2].CreatedAt.After(ended.StartedAt))
			b.True(ended.CompletedAt.After(b.events(run)[2].CreatedAt))
		}},
		{"the time of creation never changes", func(b *rig) {
			run := b.start(withCallback)
			b.past(run.Run.StartedAt)
			b.append(run.Lease, steps(1, 1))
			b.requeue(run.Lease)
			run = b.take(run.Run.ID, long)
			ended := b.finish(run.Lease, completed("Result"))
			ended.Callback = mirror(b.delivery(b.deliver()))
			b.Equal(run.Run.CreatedAt, b.run(ended.ID).CreatedAt)
			b.Equal(ended, b.run(ended.ID))
		}},
	}
}

// ordered holds times to be in order; equal ones are.
func (b *rig) ordered(times ...time.Time) {
	b.t.Helper()
	for i, at := range times[1:] {
		b.False(at.Before(times[i]), "time %d: %s is before %s", i+1, at, times[i])
	}
}
