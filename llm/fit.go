package llm

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// maxShown bounds one text in an event, in bytes: JSON writes a byte as six at
// the most, and an event has room for two such texts.
const maxShown = webtrigger.MaxEventPayload / 16

// fit makes a text short enough for an event.
func fit(s string) string {
	s = wire.ValidText(s)
	if len(s) <= maxShown {
		return s
	}
	return wire.Truncate(s, maxShown) + "…"
}

// fitMessage makes a text that is alone in its event short enough: it stays
// whole as long as its JSON fits.
func fitMessage(s string) string {
	const most, surely = webtrigger.MaxEventPayload - 64, webtrigger.MaxEventPayload / 8
	if s = wire.ValidText(s); len(s) <= surely {
		return s
	}
	if raw, err := wire.Marshal(s); err == nil && len(raw) <= most {
		return s
	}
	return wire.Truncate(s, surely) + "…"
}

// fitName does the same to a name, which a model may make up at any length.
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
