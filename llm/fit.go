package llm

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// maxShown is the maximum size of one text in an event, in bytes. JSON writes a byte as
// up to six, and an event must have room for two such texts.
const maxShown = webtrigger.MaxEventPayloadBytes / 16

// fit returns a text that is short enough for an event.
func fit(s string) string {
	s = wire.ValidText(s)
	if len(s) <= maxShown {
		return s
	}
	return wire.Truncate(s, maxShown) + "…"
}

// fitMessage returns a text that is short enough for an event without other texts. The
// text stays whole if its JSON fits.
func fitMessage(s string) string {
	const most, surely = webtrigger.MaxEventPayloadBytes - 64, webtrigger.MaxEventPayloadBytes / 8
	if s = wire.ValidText(s); len(s) <= surely {
		return s
	}
	if raw, err := wire.Marshal(s); err == nil && len(raw) <= most {
		return s
	}
	return wire.Truncate(s, surely) + "…"
}

// fitName returns a short form of a name. A model may invent names of any length.
func fitName(s string) string {
	const most = 256
	if s = wire.ValidText(s); len(s) <= most {
		return s
	}
	return wire.Truncate(s, most) + "…"
}

// showable returns arguments for an event. If they are not a JSON object, or too
// long, it is their text as a string.
func showable(arguments json.RawMessage) json.RawMessage {
	if len(arguments) <= maxShown && firstByte(arguments) == '{' && json.Valid(arguments) && utf8.Valid(arguments) {
		return arguments
	}
	quoted, err := json.Marshal(fit(string(arguments)))
	if err != nil { // a string always marshals
		return json.RawMessage(`null`)
	}
	return quoted
}
