package storetest

import "github.com/webtrigger-go/webtrigger"

// Channel settings: an assistant without settings is off; what was set is
// what is read. Assistants are listed by the bytes of their ids, each once, when
// they have settings or keys.
func channelRules() []rule {
	return []rule{
		{"settings that were never set are off under the id asked for", func(b *rig) {
			settings, err := b.store.Channel(b.ctx, assistant)
			b.NoError(err)
			b.Equal(webtrigger.Channel{AssistantID: assistant}, settings)
		}},
		{"settings are read as they were set last", func(b *rig) {
			for _, want := range []webtrigger.Channel{
				{AssistantID: assistant, Enabled: true},
				{AssistantID: assistant, AllowCallbackURLs: true},
				{AssistantID: assistant, Enabled: true, AllowCallbackURLs: true},
				{AssistantID: assistant},
			} {
				b.NoError(b.store.SetChannel(b.ctx, want))
				got, err := b.store.Channel(b.ctx, assistant)
				b.NoError(err)
				b.Equal(want, got)
			}
		}},
		{"settings of one assistant are not another's", func(b *rig) {
			b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: assistant, Enabled: true}))
			settings, err := b.store.Channel(b.ctx, stranger)
			b.NoError(err)
			b.False(settings.Enabled)
		}},
		{"ids differ by case", func(b *rig) {
			b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: "a", Enabled: true}))
			settings, err := b.store.Channel(b.ctx, "A")
			b.NoError(err)
			b.Equal(webtrigger.Channel{AssistantID: "A"}, settings)
		}},
		{"an empty store lists no assistants", func(b *rig) {
			ids, err := b.store.Assistants(b.ctx, "", 10)
			b.NoError(err)
			b.Empty(ids)
		}},
		{"assistants are those with settings or keys, each once", func(b *rig) {
			b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: "settings"}))
			b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: "both"}))
			b.key("both")
			b.key("key")
			b.key("key")
			b.accept(of("neither"))
			ids, err := b.store.Assistants(b.ctx, "", 10)
			b.NoError(err)
			b.Equal([]string{"both", "key", "settings"}, ids)
		}},
		{"an assistant whose keys are revoked is listed", func(b *rig) {
			key, _ := b.key(assistant)
			_, err := b.store.RevokeKey(b.ctx, key.ID)
			b.NoError(err)
			ids, err := b.store.Assistants(b.ctx, "", 10)
			b.NoError(err)
			b.Equal([]string{assistant}, ids)
		}},
		{"assistants are listed in the order of their bytes", func(b *rig) {
			for _, id := range []string{"a", "9", "B", "~", "aa", "_x", "10", "a-b", "-", "A", "b", "a.b"} {
				b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: id}))
			}
			ids, err := b.store.Assistants(b.ctx, "", 100)
			b.NoError(err)
			b.Equal([]string{"-", "10", "9", "A", "B", "_x", "a", "a-b", "a.b", "aa", "b", "~"}, ids)
		}},
		{"assistants are listed after the given id, even if that does not exist", func(b *rig) {
			for _, id := range []string{"a", "b", "d", "e", "f"} {
				b.key(id)
			}
			for _, c := range []struct {
				after string
				want  []string
			}{{"", []string{"a", "b"}}, {"b", []string{"d", "e"}}, {"c", []string{"d", "e"}}, {"e", []string{"f"}}} {
				ids, err := b.store.Assistants(b.ctx, c.after, 2)
				b.NoError(err)
				b.Equal(c.want, ids)
			}
			ids, err := b.store.Assistants(b.ctx, "f", 2)
			b.NoError(err)
			b.Empty(ids)
		}},
		{"Ping of a store that answers returns nil", func(b *rig) {
			b.NoError(b.store.Ping(b.ctx))
		}},
	}
}
