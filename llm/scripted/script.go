package scripted

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// command is one slash line.
type command struct {
	word      string
	text      string          // of /say and /fail; the tool's name of a command that calls one
	arguments json.RawMessage // of the same
	n         int             // of /stream and /emit
	wait      time.Duration   // of /sleep
}

// calls reports whether the command calls a tool.
func (c *command) calls() bool { return c.word == "/tool" || c.word == "/approve" || c.word == "/ask" }

// Approves reports whether a message asks with /approve for the approval of a call of a
// tool. It fits [llm.AgentOptions.ApproveCall].
func Approves(_ context.Context, task *webtrigger.Task, call llm.ToolCall) bool {
	script, err := parse(task.Input.Message)
	return err == nil && slices.ContainsFunc(script, func(c command) bool { return c.word == "/approve" && c.text == call.Name })
}

// maxCount bounds what the /stream lines of a script ask for in all, and the
// /emit lines: a message has room for thousands of lines.
const maxCount = 10_000

// parse reads the slash lines of a message.
func parse(message string) ([]command, error) {
	var script []command
	total := map[string]int{}
	for line := range strings.Lines(message) {
		line = strings.TrimRight(line, "\r\n")
		if !strings.HasPrefix(line, "/") {
			continue
		}
		c, err := parseLine(line)
		if err != nil {
			return nil, err
		}
		total[c.word] += c.n
		if total[c.word] > maxCount {
			return nil, fmt.Errorf("the %s lines ask for more than %d in all", c.word, maxCount)
		}
		script = append(script, c)
	}
	return script, nil
}

func parseLine(line string) (c command, err error) {
	var rest string
	c.word, rest, _ = strings.Cut(line, " ")
	switch c.word {
	case "/say", "/fail":
		c.text = rest
	case "/ask":
		if strings.TrimSpace(rest) == "" {
			return c, fmt.Errorf("/ask needs a question")
		}
		c.text = llm.AskHumanName
		c.arguments, _ = json.Marshal(map[string]string{"question": rest}) // a text: cannot fail
	case "/panic", "/hang", "/history":
	case "/sleep":
		if c.wait, err = time.ParseDuration(strings.TrimSpace(rest)); err != nil || c.wait < 0 {
			return c, fmt.Errorf("/sleep needs a duration such as 1.5s, not %q", rest)
		}
	case "/stream", "/emit":
		if c.n, err = strconv.Atoi(strings.TrimSpace(rest)); err != nil || c.n < 0 || c.n > maxCount {
			return c, fmt.Errorf("%s needs a number up to %d, not %q", c.word, maxCount, rest)
		}
	case "/tool", "/approve":
		name, arguments, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if name == "" {
			return c, fmt.Errorf("%s needs the name of a tool", c.word)
		}
		c.text, c.arguments = name, json.RawMessage(`{}`)
		if arguments = strings.TrimSpace(arguments); arguments != "" {
			c.arguments = json.RawMessage(arguments)
		}
	default:
		return c, fmt.Errorf("unknown command %q", c.word)
	}
	return c, nil
}
