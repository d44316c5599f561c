package storetest

import (
	"encoding/json"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// JSON is kept byte for byte: a store neither parses nor prints it. What is
// absent stays absent, which null is not.
func jsonRules() []rule {
	values := []struct{ name, object string }{
		{"large and small exponents are kept", `{"a":1e22,"b":1E+400,"c":1e-400,"d":1E0}`},
		{"zeros are kept", `{"a":-0,"b":0.0,"c":-0.0e1,"d":1.10}`},
		{"long numbers are kept", `{"a":123456789012345678901234567890,"b":0.1234567890123456789012345678901,"c":9007199254740993}`},
		{"the order of keys is kept", `{"z":1,"a":2,"10":3,"9":4,"Z":5,"aa":6}`},
		{"keys with a meaning in other formats are kept", `{"":1," ":2,"__proto__":3,"$ref":4,"a.b":5,"A":6,"a":7,"é":8,"é":9}`},
		{"white space is kept", "{ \"a\" :\t[ 1 ,\r\n2 ] ,\n\"b\":{ } }"},
		{"escapes are kept as they were written", `{"\u0061":"\u00e9\u00E9é\/\b\f\n\r\t\"\\\ud83d\ude00\u2028"}`},
		{"characters that encoders escape are kept", "{\"a\":\"<>&'\u2028\u2029\u007f\U0001F600\"}"},
		{"nesting of 64 levels is kept", strings.Repeat(`{"a":[`, 31) + `{"b":{}}` + strings.Repeat(`]}`, 31)},
		{"an empty object is kept", `{}`},
		{"an object of 250 KiB is kept", `{"a":"` + strings.Repeat("x<&>é", 250<<10/6) + `"}`},
	}
	var rules []rule
	for _, x := range values {
		rules = append(rules, rule{x.name, func(b *rig) { b.keepsJSON(json.RawMessage(x.object)) }})
	}
	return append(rules, rule{"metadata may be any value, and none is not null", func(b *rig) {
		for _, want := range []json.RawMessage{
			nil, json.RawMessage(`null`), json.RawMessage(`""`), json.RawMessage(`0`), json.RawMessage(`false`),
			json.RawMessage(`[]`), json.RawMessage(`"null"`), json.RawMessage(" [ 1e22 ]\n"),
		} {
			run := b.start(func(t *webtrigger.NewTrigger) { t.Input.Metadata = want })
			b.exact(want, run.Input.Metadata)
			stored := b.record(run.Run.ID)
			b.exact(want, stored.Input.Metadata)
			b.exact(want, stored.Conversation.Metadata)
		}
	}}, rule{"no context is not an empty one", func(b *rig) {
		for _, want := range []json.RawMessage{nil, json.RawMessage(`{}`)} {
			run := b.start(func(t *webtrigger.NewTrigger) { t.Input.Context = want })
			b.exact(want, run.Input.Context)
			b.exact(want, b.record(run.Run.ID).Input.Context)
		}
	}})
}

// keepsJSON sends an object through everything that holds JSON.
func (b *rig) keepsJSON(object json.RawMessage) {
	b.t.Helper()
	b.True(json.Valid(object), "the suite's own")
	task := definition(assistant)
	task.OutputSchema = object
	task, err := b.store.CreateTaskDefinition(b.ctx, task)
	b.NoError(err)
	task, err = b.store.TaskDefinition(b.ctx, task.ID)
	b.NoError(err)
	b.exact(object, task.OutputSchema)

	run := b.start(doing(&task), func(t *webtrigger.NewTrigger) { t.Input.Context, t.Input.Metadata = object, object })
	b.exact(object, run.Input.Context)
	b.exact(object, run.Input.Metadata)
	b.exact(object, run.Run.TaskDefinition.OutputSchema)
	event := webtrigger.NewEvent{Type: "x_json", Payload: object}
	b.append(run.Lease, webtrigger.EventBatch{Number: 1, Events: []webtrigger.NewEvent{event}})
	_, err = b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{
		Outcome: completed(""), Events: webtrigger.EventBatch{Number: 2, Events: []webtrigger.NewEvent{event}}})
	b.NoError(err)

	stored := b.record(run.Run.ID)
	b.exact(object, stored.Input.Context)
	b.exact(object, stored.Input.Metadata)
	b.exact(object, stored.Conversation.Metadata)
	b.exact(object, stored.Run.TaskDefinition.OutputSchema)
	b.sameEvent(event, stored.Events.Events[2])
	b.sameEvent(event, stored.Events.Events[3])
}
