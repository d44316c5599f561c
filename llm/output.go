package llm

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// eventOutputRejected tells that an answer was not what the task asks for, and
// that the model is asked to repair it.
const eventOutputRejected webtrigger.EventType = "x_output_rejected"

type rejected struct {
	Error string `json:"error"`
}

// output is what a run's answer must be.
type output struct {
	format   OutputFormat
	check    func(json.RawMessage) error // nil: any JSON
	repaired bool                        // the model had its second chance
}

func (o *output) compile(def *webtrigger.TaskDefinition, compile func(json.RawMessage) (func(json.RawMessage) error, error)) error {
	if def == nil {
		return nil
	}
	o.format = OutputFormat{Type: def.OutputType, Schema: def.OutputSchema}
	if !o.json() || def.OutputSchema == nil {
		return nil
	}
	var err error
	if o.check, err = compile(def.OutputSchema); err != nil {
		return failure("The task definition's schema cannot be used: " + err.Error())
	}
	return nil
}

func (o *output) json() bool { return o.format.Type == webtrigger.OutputJSON }

// read takes the JSON value out of what a model said: the text, its parsed
// value, or what is wrong with it in a sentence.
func (o *output) read(said string) (text string, value any, fault error) {
	text = unfence(said)
	value, err := parseJSON([]byte(text))
	if err != nil {
		return "", nil, failure("The result is not valid JSON, which the task definition asks for. " + err.Error())
	}
	if o.check != nil {
		if err := o.check(json.RawMessage(text)); err != nil {
			return "", nil, failure("The result does not meet the task definition's schema: " + err.Error())
		}
	}
	return text, value, nil
}

// unfence is a text without the white space and the one Markdown code fence that
// models like to put around JSON. JSON itself never begins with a backtick.
func unfence(said string) string {
	const fence = "```"
	text := strings.TrimSpace(said)
	inner, opened := strings.CutPrefix(text, fence)
	inner, closed := strings.CutSuffix(inner, fence)
	info, inner, lines := strings.Cut(inner, "\n")
	if !opened || !closed || !lines || !isInfo(strings.TrimSpace(info)) {
		return text
	}
	return strings.TrimSpace(inner)
}

// isInfo reports whether s is what may stand behind an opening fence around JSON.
func isInfo(s string) bool {
	return s == "" || strings.EqualFold(s, "json")
}

// outputDemand tells the model the form of the answer; models of vendors are
// asked natively too where they can be.
func outputDemand(def *webtrigger.TaskDefinition) string {
	switch {
	case def.OutputType == webtrigger.OutputText:
		return "Answer in plain text, without Markdown."
	case def.OutputType == webtrigger.OutputMarkdown:
		return "Answer in Markdown."
	case def.OutputType == webtrigger.OutputJSON && def.OutputSchema != nil:
		return "Answer with nothing but one JSON value that meets this JSON Schema:\n" + string(def.OutputSchema)
	case def.OutputType == webtrigger.OutputJSON:
		return "Answer with nothing but one JSON value."
	}
	return ""
}

func repairDemand(fault error) string {
	return fmt.Sprintf("Your answer cannot be used. %s\nAnswer again, with nothing but the one JSON value, whole and put right.", fault)
}
