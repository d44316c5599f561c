package storetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// API keys are stored by hash, unique by hash, and never deleted. Authenticate finds
// only live keys and returns their access at that instant. It respects every revocation
// that returned before the call.
func keyRules() []rule {
	return append(append(storedKeyRules(), grantRules()...), checkedKeyRules()...)
}

func storedKeyRules() []rule {
	return []rule{
		{"a key is returned as it was created", func(b *rig) {
			expires := b.now().Add(time.Hour)
			created, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{
				AssistantID: assistant, Name: "Zapier", Prefix: "89abcdef", Hash: newHash(), ExpiresAt: expires,
				Scopes: webtrigger.AllScopes()})
			b.NoError(err)
			b.Positive(created.ID)
			b.Equal(webtrigger.Key{ID: created.ID, AssistantID: assistant, Name: "Zapier", Prefix: "89abcdef",
				CreatedAt: created.CreatedAt, ExpiresAt: expires, Scopes: webtrigger.AllScopes()}, created)
			read, err := b.store.Key(b.ctx, created.ID)
			b.NoError(err)
			b.Equal(created, read)
		}},
		{"keys of all assistants are listed by prefix and by whether they are active", func(b *rig) {
			create := func(assistantID, prefix string, expires time.Time) webtrigger.Key {
				key, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{AssistantID: assistantID, Name: "Name", Prefix: prefix, Hash: newHash(), ExpiresAt: expires})
				b.NoError(err)
				return key
			}
			list := func(query webtrigger.KeyQuery) []int64 {
				return each(pages(b, keyID, func(page webtrigger.Page) ([]webtrigger.Key, error) {
					query.Page = page
					return b.store.Keys(b.ctx, query)
				}), keyID)
			}
			soon := b.now().Add(brief)
			one, two := create(assistant, "aaaa1111", time.Time{}), create(stranger, "aaaa2222", b.now().Add(time.Hour))
			expired, revoked := create(assistant, "bbbb0000", soon), create(stranger, "cccc0000", time.Time{})
			_, err := b.store.RevokeKey(b.ctx, revoked.ID)
			b.NoError(err)
			b.past(soon)
			yes, no := true, false
			b.Equal([]int64{revoked.ID, expired.ID, two.ID, one.ID}, list(webtrigger.KeyQuery{}))
			b.Equal([]int64{two.ID, one.ID}, list(webtrigger.KeyQuery{Active: &yes}))
			b.Equal([]int64{revoked.ID, expired.ID}, list(webtrigger.KeyQuery{Active: &no}))
			b.Equal([]int64{two.ID, one.ID}, list(webtrigger.KeyQuery{Prefix: "aaaa"}))
			b.Equal([]int64{two.ID}, list(webtrigger.KeyQuery{Prefix: "aaaa2222"}))
			b.Equal([]int64{two.ID}, list(webtrigger.KeyQuery{Prefix: "aaaa", AssistantID: stranger, Active: &yes}))
			b.Empty(list(webtrigger.KeyQuery{Prefix: "aaa_"}))
			b.Empty(list(webtrigger.KeyQuery{Prefix: "%"}))
		}},
		{"an absent key is not found", func(b *rig) {
			_, err := b.store.Key(b.ctx, absent)
			b.notFound(err)
			_, err = b.store.RevokeKey(b.ctx, absent)
			b.notFound(err)
		}},
		{"a hash that is taken is a conflict, for any assistant", func(b *rig) {
			_, hash := b.key(assistant)
			for _, id := range []string{assistant, stranger} {
				_, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{AssistantID: id, Name: "Name", Prefix: "0123abcd", Hash: hash})
				b.conflict(err)
			}
			keys, err := b.store.Keys(b.ctx, webtrigger.KeyQuery{AssistantID: stranger, Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			b.Empty(keys)
		}},
		{"the hash of a revoked key stays taken", func(b *rig) {
			key, hash := b.key(assistant)
			_, err := b.store.RevokeKey(b.ctx, key.ID)
			b.NoError(err)
			_, err = b.store.CreateKey(b.ctx, webtrigger.NewKey{AssistantID: assistant, Name: "Name", Prefix: "0123abcd", Hash: hash})
			b.conflict(err)
		}},
		{"of simultaneous keys with one hash one is created", func(b *rig) {
			hash := newHash()
			errs := b.together(16, func(int) error {
				_, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{AssistantID: assistant, Name: "Name", Prefix: "0123abcd", Hash: hash})
				return err
			})
			b.Equal(1, b.succeeded(errs, webtrigger.ErrConflict))
			keys, err := b.store.Keys(b.ctx, webtrigger.KeyQuery{AssistantID: assistant, Page: webtrigger.Page{Limit: 100}})
			b.NoError(err)
			b.Len(keys, 1)
		}},
		{"keys are listed newest first, page by page", func(b *rig) {
			var created []webtrigger.Key
			for range 5 {
				b.key(stranger)
				key, _ := b.key(assistant)
				created = append([]webtrigger.Key{key}, created...)
			}
			read := func(page webtrigger.Page) ([]webtrigger.Key, error) {
				return b.store.Keys(b.ctx, webtrigger.KeyQuery{AssistantID: assistant, Page: page})
			}
			b.Equal(created, pages(b, keyID, read))
		}},
		{"ids of keys rise", func(b *rig) {
			first, _ := b.key(assistant)
			second, _ := b.key(stranger)
			b.Greater(second.ID, first.ID)
		}},
		{"revoking stamps the key and keeps the first time", func(b *rig) {
			key, _ := b.key(assistant)
			first, err := b.store.RevokeKey(b.ctx, key.ID)
			b.NoError(err)
			b.False(first.RevokedAt.Before(key.CreatedAt))
			b.past(first.RevokedAt)
			again, err := b.store.RevokeKey(b.ctx, key.ID)
			b.NoError(err)
			b.Equal(first, again)
			key.RevokedAt = first.RevokedAt
			b.Equal(key, again, "nothing but the revocation has changed")
		}},
		{"a replaced key expires after the grace, or at its own time if that is sooner", func(b *rig) {
			old, hash := b.key(assistant)
			next := webtrigger.NewKey{AssistantID: assistant, Name: "Next", Prefix: "4567abcd", Hash: newHash()}
			before := b.now()
			key, err := b.store.ReplaceKey(b.ctx, old.ID, next, time.Hour)
			b.NoError(err)
			b.Greater(key.ID, old.ID)
			b.Equal("Next", key.Name)
			b.True(key.ExpiresAt.IsZero())
			stale, err := b.store.Key(b.ctx, old.ID)
			b.NoError(err)
			b.WithinRange(stale.ExpiresAt, before.Add(time.Hour), b.now().Add(time.Hour))
			for _, hash := range []webtrigger.KeyHash{hash, next.Hash} {
				_, err = b.store.Authenticate(b.ctx, hash, 0, 0)
				b.NoError(err)
			}
			_, err = b.store.ReplaceKey(b.ctx, old.ID, webtrigger.NewKey{AssistantID: assistant, Hash: newHash()}, 2*time.Hour)
			b.NoError(err)
			again, err := b.store.Key(b.ctx, old.ID)
			b.NoError(err)
			b.Equal(stale, again)
			_, err = b.store.ReplaceKey(b.ctx, old.ID, webtrigger.NewKey{AssistantID: assistant, Hash: newHash()}, 0)
			b.NoError(err)
			_, err = b.store.Authenticate(b.ctx, hash, 0, 0)
			b.notFound(err)
		}},
		{"a key that is not valid is not replaced, and nothing is stored", func(b *rig) {
			_, err := b.store.ReplaceKey(b.ctx, absent, webtrigger.NewKey{AssistantID: assistant, Hash: newHash()}, 0)
			b.notFound(err)
			live, hash := b.key(assistant)
			_, err = b.store.ReplaceKey(b.ctx, live.ID, webtrigger.NewKey{AssistantID: assistant, Hash: hash}, 0)
			b.conflict(err)
			same, err := b.store.Key(b.ctx, live.ID)
			b.NoError(err)
			b.Equal(live, same)
			_, err = b.store.RevokeKey(b.ctx, live.ID)
			b.NoError(err)
			_, err = b.store.ReplaceKey(b.ctx, live.ID, webtrigger.NewKey{AssistantID: assistant, Hash: newHash()}, 0)
			b.conflict(err)
			keys, err := b.store.Keys(b.ctx, webtrigger.KeyQuery{AssistantID: assistant, Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			b.Len(keys, 1)
		}},
		{"a use is stamped unless the last stamp is young", func(b *rig) {
			key, hash := b.key(assistant)
			b.True(key.LastUsedAt.IsZero())
			b.NoError(b.store.TouchKey(b.ctx, absent, time.Minute))
			before := b.now()
			b.NoError(b.store.TouchKey(b.ctx, key.ID, time.Minute))
			first, err := b.store.Key(b.ctx, key.ID)
			b.NoError(err)
			b.WithinRange(first.LastUsedAt, before, b.now())
			b.past(first.LastUsedAt)
			b.NoError(b.store.TouchKey(b.ctx, key.ID, time.Minute))
			grant, err := b.store.Authenticate(b.ctx, hash, 0, 0)
			b.NoError(err)
			b.Equal(first, grant.Key)
			b.NoError(b.store.TouchKey(b.ctx, key.ID, time.Microsecond))
			second, err := b.store.Key(b.ctx, key.ID)
			b.NoError(err)
			b.True(second.LastUsedAt.After(first.LastUsedAt))
		}},
		{"revoked and expired keys can be read", func(b *rig) {
			key, _ := b.key(assistant)
			_, err := b.store.RevokeKey(b.ctx, key.ID)
			b.NoError(err)
			expired, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{
				AssistantID: assistant, Name: "Name", Prefix: "0123abcd", Hash: newHash(), ExpiresAt: b.now().Add(-time.Hour)})
			b.NoError(err)
			_, err = b.store.Key(b.ctx, expired.ID)
			b.NoError(err)
			keys, err := b.store.Keys(b.ctx, webtrigger.KeyQuery{AssistantID: assistant, Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			b.Equal([]int64{expired.ID, key.ID}, each(keys, keyID))
			b.False(keys[1].RevokedAt.IsZero())
		}},
	}
}

func grantRules() []rule {
	return []rule{
		{"a key is known by its hash and comes with the settings of now", func(b *rig) {
			b.key(assistant)
			key, hash := b.key(assistant)
			grant, err := b.store.Authenticate(b.ctx, hash, 0, 0)
			b.NoError(err)
			b.Equal(webtrigger.Grant{Key: key, Channel: webtrigger.Channel{AssistantID: assistant}}, grant)

			settings := webtrigger.Channel{AssistantID: assistant, Enabled: true, AllowCallbackURLs: true}
			b.NoError(b.store.SetChannel(b.ctx, settings))
			grant, err = b.store.Authenticate(b.ctx, hash, 0, 0)
			b.NoError(err)
			b.Equal(settings, grant.Channel)
		}},
		{"an unknown key is not found", func(b *rig) {
			_, hash := b.key(assistant)
			hash[31] ^= 1
			_, err := b.store.Authenticate(b.ctx, hash, 0, 0)
			b.notFound(err)
		}},
		{"a revoked key is not found, others still are", func(b *rig) {
			revoked, hash := b.key(assistant)
			_, other := b.key(assistant)
			_, err := b.store.RevokeKey(b.ctx, revoked.ID)
			b.NoError(err)
			_, err = b.store.Authenticate(b.ctx, hash, 0, 0)
			b.notFound(err)
			_, err = b.store.Authenticate(b.ctx, other, 0, 0)
			b.NoError(err)
		}},
		{"a key expires by the store's clock, and not before", func(b *rig) {
			expires := b.now().Add(200 * time.Millisecond)
			hash := newHash()
			_, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{
				AssistantID: assistant, Name: "Name", Prefix: "0123abcd", Hash: hash, ExpiresAt: expires})
			b.NoError(err)
			b.eventually(func() bool {
				_, err = b.store.Authenticate(b.ctx, hash, 0, 0)
				return err != nil
			})
			b.notFound(err)
			b.False(b.now().Before(expires))
		}},
		{"a key without expiry and one with a late one live", func(b *rig) {
			for _, expires := range []time.Time{{}, b.now().Add(time.Hour)} {
				hash := newHash()
				_, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{
					AssistantID: assistant, Name: "Name", Prefix: "0123abcd", Hash: hash, ExpiresAt: expires})
				b.NoError(err)
				_, err = b.store.Authenticate(b.ctx, hash, 0, 0)
				b.NoError(err)
			}
		}},
		{"a key sees the first run of its assistant's conversation as it is now", func(b *rig) {
			_, hash := b.key(assistant)
			first := b.start()
			b.accept(in(first.Run.ConversationID))
			grant, err := b.store.Authenticate(b.ctx, hash, first.Run.ConversationID, 0)
			b.NoError(err)
			b.NotNil(grant.Run)
			b.Equal(first.Run, *grant.Run)

			ended := b.finish(first.Lease, completed("Result"))
			grant, err = b.store.Authenticate(b.ctx, hash, first.Run.ConversationID, 0)
			b.NoError(err)
			b.Equal(ended, *grant.Run)
		}},
		{"a conversation of another assistant, or none, gives a key no run", func(b *rig) {
			key, hash := b.key(assistant)
			foreign := b.accept(of(stranger))
			for _, id := range []int64{foreign.ConversationID, absent} {
				grant, err := b.store.Authenticate(b.ctx, hash, id, 0)
				b.NoError(err)
				b.Equal(key, grant.Key)
				b.Nil(grant.Run)
			}
		}},
		{"a revocation that has returned is seen by every call after it", func(b *rig) {
			for range 15 {
				key, hash := b.key(assistant)
				var revoked, stop atomic.Bool
				var late, wrong atomic.Int64
				var callers sync.WaitGroup
				for range 8 {
					callers.Go(func() {
						for last := false; !last; {
							last = stop.Load()
							after := revoked.Load()
							_, err := b.store.Authenticate(b.ctx, hash, 0, 0)
							if after {
								late.Add(1)
								if err == nil {
									wrong.Add(1)
								}
							}
						}
					})
				}
				_, err := b.store.RevokeKey(b.ctx, key.ID)
				revoked.Store(true)
				stop.Store(true)
				callers.Wait()
				b.NoError(err)
				b.Positive(late.Load())
				b.Zero(wrong.Load())
			}
		}},
	}
}

// checked makes a trigger that of an API key which was read earlier.
func checked(keyID int64) change {
	return func(t *webtrigger.NewTrigger) { t.KeyID, t.CheckKey = keyID, true }
}

// checkedKeyRules are those of NewTrigger.CheckKey.
func checkedKeyRules() []rule {
	create := func(b *rig, assistantID string, expires time.Time) int64 {
		key, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{AssistantID: assistantID, Name: "Name", Prefix: "89abcdef", Hash: newHash(), ExpiresAt: expires})
		b.NoError(err)
		return key.ID
	}
	open := func(b *rig, assistantID string) {
		b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: assistantID, Enabled: true, AllowCallbackURLs: true}))
	}
	forms := map[string][]change{
		"plain": nil, "claimed": {taking(worker)}, "with a callback": {withCallback}, "in a conversation": {under("k")},
		"that must find it idle": {under("busy"), onBusy(webtrigger.BusyReject)}, "of a request": {keyed("request", 1, long)},
		"of a known request": {keyed("known", 1, long)}, "of a known request with another body": {keyed("known", 2, long)},
		"into a full queue": {bounded(1)},
	}
	faults := map[string]func(b *rig) int64{
		"a revoked key": func(b *rig) int64 {
			id := create(b, assistant, time.Time{})
			b.NoError(second(b.store.RevokeKey(b.ctx, id)))
			return id
		},
		"an expired key": func(b *rig) int64 {
			soon := b.now().Add(brief)
			id := create(b, assistant, soon)
			b.past(soon)
			return id
		},
		"no such key":                func(*rig) int64 { return absent },
		"a key of another assistant": func(b *rig) int64 { return create(b, stranger, time.Time{}) },
		"a disabled channel": func(b *rig) int64 {
			b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: assistant, AllowCallbackURLs: true}))
			return create(b, assistant, time.Time{})
		},
	}
	rules := []rule{
		{"a checked key that is valid changes nothing", func(b *rig) {
			open(b, assistant)
			id := create(b, assistant, b.now().Add(time.Hour))
			b.register(worker, long)
			for name, form := range forms {
				if name == "of a known request with another body" {
					continue
				}
				run := b.accept(append(form, checked(id))...)
				b.Equal(id, run.KeyID, name)
				b.Equal(run, b.run(run.ID), name)
			}
			again, err := b.store.CreateTrigger(b.ctx, trigger(keyed("request", 1, long), checked(id)))
			b.NoError(err)
			b.True(again.Replayed)
		}},
		{"a checked key may use callback URLs only if the channel allows them", func(b *rig) {
			b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: assistant, Enabled: true}))
			id := create(b, assistant, time.Time{})
			b.accept(checked(id))
			_, err := b.store.CreateTrigger(b.ctx, trigger(withCallback, checked(id)))
			b.ErrorIs(err, webtrigger.ErrKeyChanged)
		}},
		{"without a channel no checked key is valid", func(b *rig) {
			_, err := b.store.CreateTrigger(b.ctx, trigger(checked(create(b, assistant, time.Time{}))))
			b.ErrorIs(err, webtrigger.ErrKeyChanged)
		}},
		{"keys of many triggers at once are checked each for itself", func(b *rig) {
			open(b, assistant)
			open(b, stranger)
			ids := []int64{create(b, assistant, time.Time{}), faults["a revoked key"](b), create(b, stranger, time.Time{})}
			errs := b.together(48, func(i int) error {
				return second(b.store.CreateTrigger(b.ctx, trigger(of([]string{assistant, stranger}[i/6%2]), checked(ids[i%3]), func(t *webtrigger.NewTrigger) {
					t.CheckKey = i%4 > 0
				})))
			})
			for i, err := range errs {
				if valid := i%3 == 0 && i/6%2 == 0 || i%3 == 2 && i/6%2 == 1; valid || i%4 == 0 {
					b.NoError(err, i)
				} else {
					b.ErrorIs(err, webtrigger.ErrKeyChanged, i)
				}
			}
		}},
		{"a revocation that has returned decides every later creation", func(b *rig) {
			open(b, assistant)
			id := create(b, assistant, time.Time{})
			var revoked atomic.Bool
			errs := b.together(8, func(i int) error {
				if i == 0 {
					defer revoked.Store(true)
					return second(b.store.RevokeKey(b.ctx, id))
				}
				for {
					late := revoked.Load()
					_, err := b.store.CreateTrigger(b.ctx, trigger(checked(id)))
					if err == nil && late {
						return errors.New("a revoked key has created a trigger")
					}
					if err != nil {
						if !errors.Is(err, webtrigger.ErrKeyChanged) {
							return err
						}
						return nil
					}
				}
			})
			b.all(errs)
		}},
	}
	for name, fault := range faults {
		rules = append(rules, rule{"a trigger with " + name + " is not stored, and gets no other answer", func(b *rig) {
			open(b, assistant)
			b.register(worker, long)
			b.accept(under("busy"))
			b.accept(keyed("known", 1, long))
			full := b.accept(bounded(1))
			id := fault(b)
			for name, form := range forms {
				b.changesNothing(full.ID, func() {
					accepted, err := b.store.CreateTrigger(b.ctx, trigger(append(form, checked(id))...))
					b.ErrorIs(err, webtrigger.ErrKeyChanged, name)
					b.Zero(accepted, name)
				})
			}
			b.Len(b.allRuns(), 3)
		}})
	}
	return rules
}

func (b *rig) allRuns() []webtrigger.Run {
	b.t.Helper()
	runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 100}})
	b.NoError(err)
	return runs
}
