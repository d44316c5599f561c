package scripted

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// command is one slash line.
type command struct {
	word      string
	text      string          // of /say and /fail; the tool's name of /tool
	arguments json.RawMessage // of /tool
	n         int             // of /stream and /emit
	wait      time.Duration   // of /sleep
}

const maxCount = 10_000 // of /stream and /emit

// parse reads the slash lines of a message.
func parse(message string) ([]command, error) {
	var script []command
	for line := range strings.Lines(message) {
		line = strings.TrimRight(line, "\r\n")
		if !strings.HasPrefix(line, "/") {
			continue
		}
		c, err := parseLine(line)
		if err != nil {
			return nil, err
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
	case "/panic", "/hang":
	case "/sleep":
		if c.wait, err = time.ParseDuration(strings.TrimSpace(rest)); err != nil || c.wait < 0 {
			return c, fmt.Errorf("/sleep needs a duration such as 1.5s, not %q", rest)
		}
	case "/stream", "/emit":
		if c.n, err = strconv.Atoi(strings.TrimSpace(rest)); err != nil || c.n < 0 || c.n > maxCount {
			return c, fmt.Errorf("%s needs a number up to %d, not %q", c.word, maxCount, rest)
		}
	case "/tool":
		name, arguments, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if name == "" {
			return c, fmt.Errorf("/tool needs the name of a tool")
		}
		c.text, c.arguments = name, json.RawMessage(`{}`)
		if arguments = strings.TrimSpace(arguments); arguments != "" {
			c.arguments = json.RawMessage(arguments)
		}
	default:
		return c, fmt.Errorf("there is no command %q", c.word)
	}
	return c, nil
}
