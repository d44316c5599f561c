package storetest

import "github.com/webtrigger-go/webtrigger"

// Signing secrets: kept as they are and in their order, apart from the settings;
// a delivery that is leased brings those of its assistant as they are then.
func secretRules() []rule {
	one, two := webtrigger.NewSigningSecret(), webtrigger.NewSigningSecret()
	return []rule{
		{"an assistant has no secrets before any are set", func(b *rig) {
			b.Empty(b.secrets(assistant))
			b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: assistant, Enabled: true}))
			b.Empty(b.secrets(assistant))
		}},
		{"secrets are read as they were set last, in their order", func(b *rig) {
			for _, want := range [][]webtrigger.SigningSecret{{one}, {two, one}, {one, two}, {two}, {}, {one}} {
				b.NoError(b.store.SetSigningSecrets(b.ctx, assistant, want))
				b.Equal(revealed(want), revealed(b.secrets(assistant)))
			}
			b.Empty(b.secrets(stranger))
		}},
		{"secrets have the time at which they were set or removed", func(b *rig) {
			b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: assistant, Enabled: true}))
			b.Zero(b.secretSet(assistant).SetAt)
			for _, list := range [][]webtrigger.SigningSecret{{one}, {two}, nil} {
				begin := b.now()
				b.NoError(b.store.SetSigningSecrets(b.ctx, assistant, list))
				set := b.secretSet(assistant)
				b.WithinRange(set.SetAt, begin, b.now())
				b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: assistant}))
				b.Equal(set.SetAt, b.secretSet(assistant).SetAt)
			}
		}},
		{"the shortest and the longest secret are kept", func(b *rig) {
			for _, text := range []string{
				"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
				"whsec_/////////////////////////////////////////////////////////////////////////////////////w==",
			} {
				secret, err := webtrigger.ParseSigningSecret(text)
				b.NoError(err)
				b.NoError(b.store.SetSigningSecrets(b.ctx, assistant, []webtrigger.SigningSecret{secret}))
				b.Equal([]string{text}, revealed(b.secrets(assistant)))
			}
		}},
		{"settings and secrets leave each other alone", func(b *rig) {
			settings := webtrigger.Channel{AssistantID: assistant, Enabled: true, AllowCallbackURLs: true}
			b.NoError(b.store.SetChannel(b.ctx, settings))
			b.NoError(b.store.SetSigningSecrets(b.ctx, assistant, []webtrigger.SigningSecret{one, two}))
			got, err := b.store.Channel(b.ctx, assistant)
			b.NoError(err)
			b.Equal(settings, got)
			settings.AllowCallbackURLs = false
			b.NoError(b.store.SetChannel(b.ctx, settings))
			b.Equal(revealed([]webtrigger.SigningSecret{one, two}), revealed(b.secrets(assistant)))
			b.NoError(b.store.SetSigningSecrets(b.ctx, assistant, nil))
			got, err = b.store.Channel(b.ctx, assistant)
			b.NoError(err)
			b.Equal(settings, got)
		}},
		{"secrets without settings leave the channel off, and list the assistant", func(b *rig) {
			b.NoError(b.store.SetSigningSecrets(b.ctx, assistant, []webtrigger.SigningSecret{one}))
			got, err := b.store.Channel(b.ctx, assistant)
			b.NoError(err)
			b.Equal(webtrigger.Channel{AssistantID: assistant}, got)
			ids, err := b.store.Assistants(b.ctx, "", 10)
			b.NoError(err)
			b.Equal([]string{assistant}, ids)
		}},
		{"a delivery that is leased brings the secrets of its assistant as they are then", func(b *rig) {
			b.NoError(b.store.SetSigningSecrets(b.ctx, assistant, []webtrigger.SigningSecret{one}))
			b.complete(withCallback)
			b.complete(withCallback, of(stranger))
			b.NoError(b.store.SetSigningSecrets(b.ctx, assistant, []webtrigger.SigningSecret{two, one}))
			leased := b.leased(2, long)
			b.Len(leased, 2)
			b.Equal(revealed([]webtrigger.SigningSecret{two, one}), revealed(leased[0].Secrets))
			b.Empty(leased[1].Secrets)
		}},
		{"secrets that are set, read or leased are copies", func(b *rig) {
			given := []webtrigger.SigningSecret{one, two}
			b.NoError(b.store.SetSigningSecrets(b.ctx, assistant, given))
			given[0] = two
			b.secrets(assistant)[1] = one
			b.complete(withCallback)
			b.lease(brief).Secrets[0] = two
			b.Equal(revealed([]webtrigger.SigningSecret{one, two}), revealed(b.secrets(assistant)))
		}},
	}
}

func (b *rig) secrets(assistantID string) []webtrigger.SigningSecret {
	b.t.Helper()
	return b.secretSet(assistantID).Secrets
}

func (b *rig) secretSet(assistantID string) webtrigger.SigningSecretSet {
	b.t.Helper()
	set, err := b.store.SigningSecrets(b.ctx, assistantID)
	b.NoError(err)
	return set
}

func revealed(secrets []webtrigger.SigningSecret) []string {
	return each(secrets, webtrigger.SigningSecret.Reveal)
}
