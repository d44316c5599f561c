package storetest

import (
	"context"
	"encoding/json"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/bridge"
)

// The audit log: each write under a context with an entry stores the entry in its
// transition, and a write that changes nothing stores none.
func auditRules() []rule {
	return []rule{
		{"each kind of write stores its entry", func(b *rig) {
			for _, w := range b.auditedWrites() {
				before := b.now()
				b.NoError(w.do(b.audited(w.object)), w.object)
				entries := b.entries(webtrigger.AuditQuery{Page: webtrigger.Page{Limit: 1}})
				b.Len(entries, 1, w.object)
				got := entries[0]
				b.Regexp("^"+w.object+"[0-9]*$", got.Object)
				b.Equal([]string{"Ada", "verb", "request"}, []string{got.Actor, got.Action, got.RequestID}, w.object)
				b.exact(json.RawMessage(`{"a": 1e22}`), got.Detail)
				b.False(got.At.Before(before), w.object)
			}
		}},
		{"the entry of a creation has the id of what was created", func(b *rig) {
			key, err := b.store.CreateKey(b.audited("key/"), newKey())
			b.NoError(err)
			b.Equal([]string{objectID("key/", key.ID)}, b.objects(webtrigger.AuditQuery{}))
			task, err := b.store.CreateTaskDefinition(b.audited("task/"), definition(assistant))
			b.NoError(err)
			created, err := b.store.CreateTrigger(b.audited("run/"), trigger())
			b.NoError(err)
			b.Equal([]string{objectID("run/", created.Run.ID), objectID("task/", task.ID), objectID("key/", key.ID)}, b.objects(webtrigger.AuditQuery{}))
		}},
		{"a write without an entry stores none", func(b *rig) {
			for _, w := range b.auditedWrites() {
				b.NoError(w.do(b.ctx), w.object)
			}
			b.Empty(b.entries(webtrigger.AuditQuery{}))
		}},
		{"a write that fails or changes nothing stores no entry", func(b *rig) {
			key := newKey()
			created, err := b.store.CreateKey(b.ctx, key)
			b.NoError(err)
			_, err = b.store.RevokeKey(b.ctx, created.ID)
			b.NoError(err)
			ended := b.complete(withCallback)
			pending := b.deliveries(ended.ID)[0]
			running := b.start()
			b.stop(running.Run.ID, webtrigger.CancelStop("first"))
			read := b.task(assistant)
			_, err = b.store.UpdateTaskDefinition(b.ctx, read)
			b.NoError(err)
			repeated := trigger(keyed("same", 1, long))
			_, err = b.store.CreateTrigger(b.ctx, repeated)
			b.NoError(err)
			ctx := b.audited("any/")
			b.conflict(second(b.store.CreateKey(ctx, key)))
			b.conflict(second(b.store.ReplaceKey(ctx, created.ID, newKey(), 0)))
			b.NoError(second(b.store.RevokeKey(ctx, created.ID)))
			b.notFound(second(b.store.RevokeKey(ctx, absent)))
			b.NoError(second(b.store.RequestStop(ctx, ended.ID, webtrigger.CancelStop(""), nil)))
			b.NoError(second(b.store.RequestStop(ctx, running.Run.ID, webtrigger.CancelStop("second"), nil)))
			b.notFound(second(b.store.RequestStop(ctx, absent, webtrigger.CancelStop(""), nil)))
			b.conflict(second(b.store.UpdateTaskDefinition(ctx, read)))
			b.notFound(b.store.DeleteTaskDefinition(ctx, absent))
			b.conflict(second(b.store.Redeliver(ctx, pending.ID)))
			b.conflict(b.store.EraseTrigger(ctx, running.Run.ConversationID))
			b.notFound(b.store.EraseTrigger(ctx, absent))
			b.NoError(second(b.store.CreateTrigger(ctx, repeated)))
			b.Empty(b.entries(webtrigger.AuditQuery{}))
		}},
		{"entries are listed newest first, page by page, by actor, object and time", func(b *rig) {
			for i, e := range []webtrigger.AuditEntry{
				{Actor: "Ada", Action: "a", Object: "channel/1"}, {Action: "a", Object: "channel/2"},
				{Actor: "Bob", Action: "b", Object: "channel/1"}, {Actor: "ada", Action: "b", Object: "channel/10"},
			} {
				b.NoError(b.store.SetChannel(bridge.WithAudit(b.ctx, e), webtrigger.Channel{AssistantID: assistant, Enabled: i%2 == 0}))
				b.past(b.now())
			}
			all := pages(b, entryID, func(page webtrigger.Page) ([]webtrigger.AuditEntry, error) {
				return b.store.Audit(b.ctx, webtrigger.AuditQuery{Page: page})
			})
			b.Equal([]string{"channel/10", "channel/1", "channel/2", "channel/1"}, each(all, entryObject))
			b.Empty(all[2].Actor)
			b.exact(nil, all[2].Detail)
			b.ordered(all[3].At, all[2].At, all[1].At, all[0].At)
			ids := func(query webtrigger.AuditQuery) []int64 { return each(b.entries(query), entryID) }
			b.Equal([]int64{all[3].ID}, ids(webtrigger.AuditQuery{Actor: "Ada"}))
			b.Equal([]int64{all[1].ID, all[3].ID}, ids(webtrigger.AuditQuery{Object: "channel/1"}))
			b.Equal([]int64{all[1].ID}, ids(webtrigger.AuditQuery{Object: "channel/1", Actor: "Bob"}))
			b.Equal([]int64{all[1].ID, all[2].ID}, ids(webtrigger.AuditQuery{From: all[2].At, To: all[0].At}))
			b.Empty(ids(webtrigger.AuditQuery{Object: "channel/"}))
		}},
		{"entries past their age are purged, and no others", func(b *rig) {
			set := func() {
				b.NoError(b.store.SetChannel(b.audited("channel/"+assistant), webtrigger.Channel{AssistantID: assistant}))
			}
			set()
			set()
			b.purge(webtrigger.Retention{})
			b.Len(b.entries(webtrigger.AuditQuery{}), 2)
			b.outlast(brief)
			_, err := b.store.Purge(b.ctx, webtrigger.Purge{Keep: webtrigger.Retention{Audit: brief}, Limit: 1})
			b.NoError(err)
			b.Len(b.entries(webtrigger.AuditQuery{}), 1)
			b.purge(webtrigger.Retention{Audit: long})
			b.Len(b.entries(webtrigger.AuditQuery{}), 1)
			b.Equal(webtrigger.Purged{AuditEntries: 1}, b.purge(webtrigger.Retention{Audit: brief}))
			b.Empty(b.entries(webtrigger.AuditQuery{}))
			set()
			b.Len(b.entries(webtrigger.AuditQuery{}), 1)
		}},
		{"entries outlive what they are about, and are copies", func(b *rig) {
			run := b.complete()
			b.NoError(b.store.EraseTrigger(b.audited("conversation/9"), run.ConversationID))
			b.entries(webtrigger.AuditQuery{})[0].Detail[1] = 'x'
			b.exact(json.RawMessage(`{"a": 1e22}`), b.entries(webtrigger.AuditQuery{})[0].Detail)
		}},
	}
}

type auditedWrite struct {
	object string
	do     func(ctx context.Context) error
}

// auditedWrites are one write of each kind, each of which changes a resource.
func (b *rig) auditedWrites() []auditedWrite {
	s := b.store
	task := b.task(assistant)
	waiting, running := b.accept(), b.start()
	key, err := s.CreateKey(b.ctx, newKey())
	b.NoError(err)
	return []auditedWrite{
		{"channel/", func(ctx context.Context) error { return s.SetChannel(ctx, webtrigger.Channel{AssistantID: assistant}) }},
		{"secrets/", func(ctx context.Context) error {
			return s.SetSigningSecrets(ctx, assistant, []webtrigger.SigningSecret{webtrigger.NewSigningSecret()})
		}},
		{"key/", func(ctx context.Context) error { return second(s.CreateKey(ctx, newKey())) }},
		{"rotated/", func(ctx context.Context) error { return second(s.ReplaceKey(ctx, key.ID, newKey(), long)) }},
		{"revoked/", func(ctx context.Context) error { return second(s.RevokeKey(ctx, key.ID)) }},
		{"task/", func(ctx context.Context) error { return second(s.CreateTaskDefinition(ctx, definition(assistant))) }},
		{"updated/", func(ctx context.Context) error { return second(s.UpdateTaskDefinition(ctx, task)) }},
		{"deleted/", func(ctx context.Context) error { return s.DeleteTaskDefinition(ctx, task.ID) }},
		{"run/", func(ctx context.Context) error { return second(s.CreateTrigger(ctx, trigger())) }},
		{"joined/", func(ctx context.Context) error {
			return second(s.CreateTrigger(ctx, trigger(in(running.Run.ConversationID))))
		}},
		{"bounded/", func(ctx context.Context) error { return second(s.CreateTrigger(ctx, trigger(bounded(100)))) }},
		{"cancelled/", func(ctx context.Context) error {
			return second(s.RequestStop(ctx, waiting.ID, webtrigger.CancelStop(""), nil))
		}},
		{"stopped/", func(ctx context.Context) error {
			return second(s.RequestStop(ctx, running.Run.ID, webtrigger.CancelStop(""), nil))
		}},
		{"delivery/", func(ctx context.Context) error { return second(s.Redeliver(ctx, b.anyDelivery())) }},
		{"conversation/", func(ctx context.Context) error { return s.EraseTrigger(ctx, waiting.ConversationID) }},
	}
}

// anyDelivery is the id of a delivery that may be repeated.
func (b *rig) anyDelivery() int64 {
	b.t.Helper()
	b.complete(withCallback)
	return b.deliver().Delivery.ID
}

// audited is a context whose write has an entry.
func (b *rig) audited(object string) context.Context {
	return bridge.WithAudit(b.ctx, webtrigger.AuditEntry{Actor: "Ada", Action: "verb", Object: object, RequestID: "request",
		Detail: json.RawMessage(`{"a": 1e22}`)})
}

func (b *rig) entries(query webtrigger.AuditQuery) []webtrigger.AuditEntry {
	b.t.Helper()
	if query.Page.Limit == 0 {
		query.Page.Limit = 100
	}
	entries, err := b.store.Audit(b.ctx, query)
	b.NoError(err)
	return entries
}

func (b *rig) objects(query webtrigger.AuditQuery) []string {
	return each(b.entries(query), entryObject)
}

func entryID(e webtrigger.AuditEntry) int64      { return e.ID }
func entryObject(e webtrigger.AuditEntry) string { return e.Object }

func objectID(object string, id int64) string {
	return webtrigger.AuditEntry{Object: object}.About(id).Object
}

func newKey() webtrigger.NewKey {
	return webtrigger.NewKey{AssistantID: assistant, Name: "Zapier", Prefix: "89abcdef", Hash: newHash()}
}
