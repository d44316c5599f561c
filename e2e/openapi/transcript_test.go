package openapi_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/openapi"
)

// TestTranscripts checks every exchange of the HTTP suite. TestWire of wiretest compares
// the service with the same exchanges.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	c := newContract(t, openapi.JSON())
	exchanges := transcripts(t)
	require.Greater(t, len(exchanges), 100)
	for _, x := range exchanges {
		require.Empty(t, c.check(x), "%s\n%s", x.name, x.answerBody)
	}
	const trigger, one = "POST /api/v1/assistants/{assistant_id}/web-trigger ", " /api/v1/web-triggers/{trigger_id}/"
	for _, seen := range []string{
		trigger + "200", trigger + "202", trigger + "429 rate_limited", trigger + "429 queue_full", trigger + "503 unavailable",
		"GET" + one + "status 200", "GET" + one + "status 202", "GET" + one + "status 304", "GET" + one + "status 503 unavailable",
		"POST" + one + "cancel 200", "POST" + one + "cancel 202", "POST" + one + "cancel 503 unavailable",
	} {
		require.True(t, c.seen[seen], seen)
	}
}

// TestHeaders removes headers from responses that must have them, and makes others
// invalid. The contract must detect each change.
func TestHeaders(t *testing.T) {
	t.Parallel()
	c, spoiled := newContract(t, openapi.JSON()), make(map[string]int)
	for _, x := range transcripts(t) {
		for status, headers := range map[int][]string{
			http.StatusAccepted:           {"Location", "Retry-After"},
			http.StatusTooManyRequests:    {"Retry-After", "RateLimit", "RateLimit-Policy"},
			http.StatusServiceUnavailable: {"Retry-After"},
		} {
			for _, name := range headers {
				if x.status == status {
					without := x
					without.answer = x.answer.Clone()
					without.answer.Del(name)
					require.NotEmpty(t, c.check(without), "%s without %s", x.name, name)
					spoiled[name]++
				}
			}
		}
		for _, name := range []string{"RateLimit", "RateLimit-Policy", "Preference-Applied"} {
			if x.answer.Get(name) != "" {
				wrong := x
				wrong.answer = x.answer.Clone()
				wrong.answer.Set(name, "all")
				require.NotEmpty(t, c.check(wrong), "%s with another %s", x.name, name)
				spoiled[name]++
			}
		}
	}
	require.Len(t, spoiled, 5)
}

// transcripts reads internal/wiretest/testdata; TestWire has the format.
func transcripts(t *testing.T) (all []exchange) {
	t.Helper()
	files, err := filepath.Glob("../../internal/wiretest/testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var request, answer strings.Builder
		flush := func(line int) {
			if answer.Len() > 0 {
				x := parseExchange(t, request.String(), answer.String())
				x.name = file + ":" + strconv.Itoa(line)
				all = append(all, x)
			}
			request.Reset()
			answer.Reset()
		}
		for i, line := range strings.SplitAfter(string(text), "\n") {
			into := &answer
			switch {
			case strings.HasPrefix(line, ">"):
				if answer.Len() > 0 {
					flush(i)
				}
				into = &request
			case !strings.HasPrefix(line, "<"):
				flush(i)
				continue
			}
			into.WriteString(strings.TrimPrefix(line[1:], " "))
		}
		flush(0)
	}
	return all
}

var (
	repeat = regexp.MustCompile(`\{\{rep (\S+) (\d+)\}\}`)
	secret = regexp.MustCompile(`\$[A-Z0-9]+`)
	masked = strings.NewReplacer("<uuid>", "f7d2c1a8-5f0e-4d3b-9a61-0c8e7b2d4f19", "<time>", "2026-04-15T10:01:23+00:00", "<hash>", "abc")
)

func parseExchange(t *testing.T, request, answer string) (x exchange) {
	t.Helper()
	request = repeat.ReplaceAllStringFunc(secret.ReplaceAllString(request, strings.Repeat("0f", 32)), func(m string) string {
		parts := repeat.FindStringSubmatch(m)
		n, err := strconv.Atoi(parts[2])
		require.NoError(t, err)
		return strings.Repeat(parts[1], n)
	})
	line, header, body := parseMessage(request)
	x.request, x.requestBody = header, []byte(body)
	var ok bool
	x.method, x.target, ok = strings.Cut(line, " ")
	require.True(t, ok, request)
	x.target = "http://app.example.com" + x.target
	line, header, body = parseMessage(masked.Replace(answer))
	x.answer, x.answerBody = header, []byte(body)
	status, err := strconv.Atoi(line)
	require.NoError(t, err)
	x.status = status
	return x
}

func parseMessage(text string) (first string, h http.Header, body string) {
	head, body, _ := strings.Cut(text, "\n\n")
	h = make(http.Header)
	for i, line := range strings.Split(strings.TrimSpace(head), "\n") {
		if i == 0 {
			first = strings.TrimSpace(line)
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		h.Add(name, strings.TrimSpace(value))
	}
	return first, h, strings.TrimSuffix(body, "\n")
}
