// Package demotools has three harmless tools to start with: search_knowledge,
// current_time and calculator.
package demotools

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger/llm"
)

// Tools returns the demo tools. They use no network and change nothing.
func Tools() []llm.Tool {
	return []llm.Tool{
		must(llm.NewTool("search_knowledge", "Searches what is known about Web Trigger.", searchKnowledge)),
		must(llm.NewTool("current_time", "Returns the current date and time.", currentTime)),
		must(llm.NewTool("calculator", "Evaluates an arithmetic expression with + - * / and parentheses.", calculator)),
	}
}

func must(t llm.Tool, err error) llm.Tool {
	if err != nil { // the argument structs below are fixed
		panic(err)
	}
	t.Repeatable = true
	return t
}

type searchArguments struct {
	Query string `json:"query" jsonschema:"what to look for, in a few words"`
}

// knowledge is what search_knowledge finds.
func knowledge() []string {
	return []string{
		"Trigger: one HTTPS POST with an API key starts a conversation; the answer is 202 with a status_url.",
		"Status: GET the status_url until status is completed or failed.",
		"Callback: name a callback_url and the end of the run is POSTed there once.",
		"Stream: the events of a run arrive live as Server-Sent Events, and resume after a lost connection.",
		"Tasks: a task definition stores instructions, an output type and the tools that may be used.",
		"Keys: an API key belongs to one assistant; revoking it acts on the next request.",
	}
}

func searchKnowledge(_ context.Context, args searchArguments) (string, error) {
	var found []string
	for _, fact := range knowledge() {
		for word := range strings.FieldsSeq(strings.ToLower(args.Query)) {
			word = strings.Trim(word, "?!.,;:\"'")
			if len(word) > 2 && strings.Contains(strings.ToLower(fact), word) { // shorter ones are in everything
				found = append(found, fact)
				break
			}
		}
	}
	if len(found) == 0 {
		return "Nothing found.", nil
	}
	return strings.Join(found, "\n"), nil
}

type timeArguments struct {
	Zone string `json:"zone,omitempty" jsonschema:"an IANA time zone such as Europe/Vienna; UTC without one"`
}

func currentTime(_ context.Context, args timeArguments) (string, error) {
	zone, err := time.LoadLocation(args.Zone)
	if err != nil || args.Zone == "Local" { // the server's zone, not an IANA name
		return "", fmt.Errorf("unknown time zone %q", args.Zone)
	}
	return time.Now().In(zone).Format(time.RFC3339), nil
}

type calculatorArguments struct {
	Expression string `json:"expression" jsonschema:"such as (2 + 3) * 4.5"`
}

func calculator(_ context.Context, args calculatorArguments) (string, error) {
	if len(args.Expression) > maxExpression {
		return "", errors.New("the expression is too long")
	}
	return evaluate(args.Expression)
}
