package memstore

import (
	"bytes"
	"slices"

	"github.com/webtrigger-go/webtrigger"
)

// The copies that cross the border of the store, inwards and outwards: they
// share nothing that can be changed.

func cloneRun(r webtrigger.Run) webtrigger.Run {
	r.Usage = clonePointer(r.Usage)
	r.TaskDefinition = cloneTaskPointer(r.TaskDefinition)
	return r
}

func cloneTask(t webtrigger.TaskDefinition) webtrigger.TaskDefinition {
	t.AllowedTools = slices.Clone(t.AllowedTools)
	t.ApproveTools = slices.Clone(t.ApproveTools)
	t.OutputSchema = bytes.Clone(t.OutputSchema)
	return t
}

func cloneTaskPointer(t *webtrigger.TaskDefinition) *webtrigger.TaskDefinition {
	if t == nil {
		return nil
	}
	c := cloneTask(*t)
	return &c
}

func cloneInput(in webtrigger.RunInput) webtrigger.RunInput {
	in.Context = bytes.Clone(in.Context)
	in.Metadata = bytes.Clone(in.Metadata)
	return in
}

func cloneConversation(c webtrigger.Conversation) webtrigger.Conversation {
	c.Metadata = bytes.Clone(c.Metadata)
	return c
}

func cloneEvent(e webtrigger.Event) webtrigger.Event {
	e.Payload = bytes.Clone(e.Payload)
	return e
}

// clonePointer copies what p points at, which holds no pointers itself.
func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
