package llm

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// eventOutputRejected reports that an answer does not meet the task's output type or
// schema, and that the model must repair it.
const eventOutputRejected webtrigger.EventType = "x_output_rejected"

type rejected struct {
	Error string `json:"error"`
}

// output is the required form of a run's answer.
type output struct {
	format   OutputFormat
	check    func(json.RawMessage) error // nil: any JSON
	repaired bool                        // the model was asked to repair its answer
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

// read extracts the JSON value from an answer. It returns its text, or what is wrong
// with the answer in a sentence.
func (o *output) read(said string) (text string, fault error) {
	text = unfence(said)
	if _, err := parseJSON([]byte(text)); err != nil {
		return "", failure("The result is not valid JSON, which the task definition asks for. " + err.Error())
	}
	if o.check != nil {
		if err := o.check(json.RawMessage(text)); err != nil {
			return "", failure("The result does not meet the task definition's schema: " + err.Error())
		}
	}
	return text, nil
}

// unfence removes white space and one Markdown code fence, which models often put
// around JSON. JSON itself never begins with a backtick.
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

// isInfo reports whether s may follow an opening fence around JSON.
func isInfo(s string) bool {
	return s == "" || strings.EqualFold(s, "json")
}

// outputDemand is the instruction about the form of the answer. Adapters also use the
// vendor's own option if there is one.
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
