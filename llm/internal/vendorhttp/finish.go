package vendorhttp

import (
	"slices"
	"strings"
)

// Ending is the meaning of a finish reason. If several reasons are given for one
// answer, the greatest one counts.
type Ending int

// The meanings of finish reasons.
const (
	Unsaid  Ending = iota // no reason was given
	Whole                 // the answer is complete
	Tools                 // the model waits for tools
	Unknown               // a reason that is not in the tables below
	Length                // a limit of tokens was reached
	Refusal               // the model or a filter declined
	Broken                // the server stopped early
)

// ReadEnding returns the meaning of a vendor's word. Vendors differ in spelling, so
// only the letters of a word count.
func ReadEnding(reason string) Ending {
	word := letters(reason)
	if word == "" || word == "null" || word == "none" || word == "nil" {
		return Unsaid
	}
	for _, e := range endings {
		if slices.Contains(e.words, word) {
			return e.ending
		}
	}
	for _, e := range endings {
		if slices.ContainsFunc(e.parts, func(part string) bool { return strings.Contains(word, part) }) {
			return e.ending
		}
	}
	return Unknown
}

// endings is tried from top to bottom: first the whole words of all rows, then their
// parts.
var endings = []struct {
	ending Ending
	words  []string
	parts  []string
}{
	{Whole, []string{"stop", "endturn", "stopsequence", "eos", "eostoken", "endoftext", "endofturn", "complete", "completed", "done",
		"end", "finish", "finished", "success", "normal"}, nil},
	{Tools, []string{"toolcalls", "toolcall", "tooluse", "functioncall", "functioncalls", "tool"}, nil},
	{Broken, []string{"error", "failed", "failure", "fail", "other"},
		[]string{"malformed", "functioncallfilter", "unexpectedtool", "unexecutedtool", "toomanytoolcalls", "insufficientsystem",
			"insufficientresource", "abort", "cancel", "timeout", "timedout", "deadline", "interrupt", "network", "overload",
			"unavailable", "internal", "servererror", "preempt", "disconnect", "terminated", "killed", "paused", "pauseturn"}},
	{Length, nil, []string{"length", "maxtokens", "maxoutput", "maxcompletion", "maxnewtokens", "tokenlimit", "tokenslimit",
		"contextwindow", "contextlimit", "errorlimit", "truncated"}},
	{Refusal, []string{"language", "spii", "errortoxic"},
		[]string{"filter", "safety", "recitation", "refus", "blocked", "blocklist", "prohibited", "sensitive", "moderation",
			"guardrail", "policy", "violation", "toxic", "copyright"}},
	{Broken, nil, []string{"error", "fail"}},
}

// letters is a word in lower case without what stands between its parts.
func letters(word string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, word)
}
