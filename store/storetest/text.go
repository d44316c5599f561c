package storetest

import (
	"encoding/json"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// Text is kept as it is: no normal form, no folding, no trimming, no escaping,
// whatever its characters mean elsewhere. The one character that no text holds
// is NUL.
func textRules() []rule {
	texts := []struct{ name, text string }{
		{"emoji are kept", "👩‍👩‍👧‍👦 🇩🇪 \U0001F9D1\U0001F3FD\u200d\U0001F680 \U0010FFFD"},
		{"combining characters are kept apart", "e\u0301 is not \u00e9, \u1100\u1161 is not \uac00, Z\u0351\u036b\u0343"},
		{"right-to-left text and its marks are kept", "\u202eשלום\u202c مرحبا \u200f\u2067x\u2069"},
		{"quotes, backslashes and SQL are kept", `'); DROP TABLE runs;-- "x" ''y'' \' \\ \n ? ?? $1 :name @p %s {} E'\x41'`},
		{"markup is kept", `<script>&amp;</script>]]><!-- -->`},
		{"line separators are kept", "a\u2028b\u2029c\u0085d\ve\ff"},
		{"control characters but NUL are kept", func() string {
			var all strings.Builder
			for c := rune(1); c < 0x20; c++ {
				all.WriteRune(c)
			}
			return all.String() + "\u007f\u0080\u009f"
		}()},
		{"carriage returns are kept alone and in pairs", "a\rb\r\nc\n\rd"},
		{"outer white space is kept", " \t\u00a0x\u3000\n "},
		{"byte order marks and noncharacters are kept", "\ufeffx\ufffe\uffff\ufdd0\ufffd"},
	}
	rules := []rule{
		{"50,000 characters of four bytes are kept", func(b *rig) {
			text := strings.Repeat("\U0001F600\U00020000", 25_000)
			run := b.start(saying(text))
			b.Equal(text, run.Input.Message)
			b.Equal(text, b.messages(run.Run.ConversationID)[0].Content)
		}},
		{"a result of 1 MiB is kept", func(b *rig) {
			text := strings.Repeat("0123456789abcde\n", 1<<16)
			run := b.finish(b.start().Lease, completed(text))
			b.Equal(text, b.run(run.ID).Result)
			b.Equal(text, b.messages(run.ConversationID)[1].Content)
		}},
		{"the empty text is kept", func(b *rig) {
			_, err := b.store.FinishRun(b.ctx, b.start().Lease, webtrigger.Finish{
				Outcome: completed(""), Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleTool}}})
			b.NoError(err)
		}},
	}
	for _, x := range texts {
		rules = append(rules, rule{x.name, func(b *rig) { b.keepsText(x.text) }})
	}
	return rules
}

// keepsText sends a text through everything that holds text.
func (b *rig) keepsText(text string) {
	b.t.Helper()
	key, err := b.store.CreateKey(b.ctx, webtrigger.NewKey{AssistantID: assistant, Name: text, Prefix: "0123abcd", Hash: newHash()})
	b.NoError(err)
	key, err = b.store.Key(b.ctx, key.ID)
	b.NoError(err)
	b.Equal(text, key.Name)

	task := webtrigger.TaskDefinition{AssistantID: assistant, Name: text, Instructions: text,
		OutputType: webtrigger.OutputText, AllowedTools: []string{text, "x"}}
	task, err = b.store.CreateTaskDefinition(b.ctx, task)
	b.NoError(err)
	b.Equal([]string{text, text, text}, []string{task.Name, task.Instructions, task.AllowedTools[0]})

	run := b.accept(doing(&task), withCallback, func(t *webtrigger.NewTrigger) { t.Input.Subject, t.Input.Message = text, text })
	claimed := b.take(run.ID, long)
	b.Equal([]string{text, text}, []string{claimed.Input.Subject, claimed.Input.Message})
	b.Equal(task, *claimed.Run.TaskDefinition)

	payload, err := json.Marshal(map[string]string{"text": text})
	b.NoError(err)
	_, err = b.store.FinishRun(b.ctx, claimed.Lease, webtrigger.Finish{
		Outcome:  completed(text),
		Events:   webtrigger.EventBatch{Number: 1, Events: []webtrigger.NewEvent{{Type: "x_text", Payload: payload}}},
		Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleTool, Content: text}},
	})
	b.NoError(err)
	stored := b.record(run.ID)
	b.Equal(text, stored.Run.Result)
	b.Equal(text, stored.Conversation.Subject)
	b.Equal([]string{text, text, text}, each(stored.Messages, content))
	b.exact(payload, stored.Events.Events[2].Payload)

	leased := b.lease(long)
	b.NoError(b.store.ClaimDelivery(b.ctx, leased.Lease))
	b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, webtrigger.DeliveryOutcome{
		State: webtrigger.DeliveryFailed, Error: text, Response: text}))
	delivery := b.deliveries(run.ID)[0]
	b.Equal([]string{text, text}, []string{delivery.Error, delivery.Response})

	b.ends(failed(text), b.finish(b.start().Lease, failed(text)))
	stop := webtrigger.CancelStop(text)
	b.ends(webtrigger.Outcome{}.Under(&stop), b.stop(b.accept().ID, stop))
}
