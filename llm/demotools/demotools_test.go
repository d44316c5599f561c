package demotools_test

import (
	"context"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/demotools"
)

func tool(t testing.TB, name string) llm.Tool {
	t.Helper()
	for _, tool := range demotools.Tools() {
		if tool.Name == name {
			return tool
		}
	}
	t.Fatalf("there is no tool %s", name)
	return llm.Tool{}
}

func call(ctx context.Context, tool llm.Tool, arguments any) (string, error) {
	raw, err := json.Marshal(arguments)
	if err != nil {
		return "", err
	}
	return tool.Call(ctx, raw)
}

func TestTools(t *testing.T) {
	t.Parallel()
	tools := demotools.Tools()
	var names []string
	for _, tool := range tools {
		names = append(names, tool.Name)
		require.NotEmpty(t, tool.Description)
		_, err := llm.CompileSchema(tool.Parameters)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"search_knowledge", "current_time", "calculator"}, names)

	check, err := llm.CompileSchema(tool(t, "calculator").Parameters)
	require.NoError(t, err)
	require.Error(t, check(json.RawMessage(`{}`)))
	require.Error(t, check(json.RawMessage(`{"expression":1}`)))
	check, err = llm.CompileSchema(tool(t, "current_time").Parameters)
	require.NoError(t, err)
	require.NoError(t, check(json.RawMessage(`{}`)))
}

func TestCalculator(t *testing.T) {
	t.Parallel()
	nines := strings.Repeat("9", 400)
	factors := strings.TrimSuffix(strings.Repeat("99999999*", 111), "*")
	product := new(big.Int).Exp(big.NewInt(99999999), big.NewInt(111), nil).String()
	for _, tt := range []struct{ expression, want, failure string }{
		{"1+1", "2", ""},
		{"2 + 3 * 4", "14", ""},
		{"(2 + 3) * 4.5", "22.5", ""},
		{"10 - 3 - 2", "5", ""},
		{"100/10/5", "2", ""},
		{"1/3", "0.333333333333", ""},
		{"2/3", "0.666666666667", ""},
		{"0.1+0.2", "0.3", ""},
		{"-5", "-5", ""},
		{"--5", "5", ""},
		{"+5", "5", ""},
		{"2*-3", "-6", ""},
		{"-(1+2)", "-3", ""},
		{"1-1", "0", ""},
		{"-0", "0", ""},
		{"-1/10000000000000", "0", ""},
		{"010", "10", ""},
		{"08", "8", ""},
		{".5", "0.5", ""},
		{"5.", "5", ""},
		{"1.50", "1.5", ""},
		{"100", "100", ""},
		{" \t7\r\n", "7", ""},
		{"9007199254740993+0", "9007199254740993", ""},
		{nines + "+1", "1" + strings.Repeat("0", 400), ""},
		{factors, product, ""},
		{strings.Repeat("(", 499) + "1" + strings.Repeat(")", 499), "1", ""},
		{strings.Repeat("-", 998) + "1", "1", ""},

		{"1/0", "", "division by zero"},
		{"1/(2-2)", "", "division by zero"},
		{"1/0.0", "", "division by zero"},
		{"0/0", "", "division by zero"},
		{"", "", "ends where a number is expected"},
		{"   ", "", "ends where a number is expected"},
		{"1+", "", "ends where a number is expected"},
		{"(1", "", "closing parenthesis"},
		{"(", "", "ends where a number is expected"},
		{"()", "", "not expected there"},
		{"1)", "", "not expected there"},
		{"1 2", "", "not expected there"},
		{"2(3)", "", "not expected there"},
		{"*2", "", "not expected there"},
		{"2**3", "", "not expected there"},
		{"2^3", "", "not expected there"},
		{"x", "", `"x" is not expected there`},
		{"1e9", "", `"e" is not expected there`},
		{"0x10", "", `"x" is not expected there`},
		{"1_000", "", `"_" is not expected there`},
		{"1÷2", "", `"÷" is not expected there`},
		{"1.2.3", "", "cannot be read"},
		{".", "", "cannot be read"},
		{"...", "", "cannot be read"},
		{strings.Repeat("(", 1000), "", "ends where a number is expected"},
		{strings.Repeat("9", 1000) + "+1", "", "too long"},
		{strings.Repeat("1", 1001), "", "too long"},
	} {
		got, err := call(t.Context(), tool(t, "calculator"), map[string]string{"expression": tt.expression})
		if tt.failure != "" {
			require.ErrorContains(t, err, tt.failure, tt.expression)
			continue
		}
		require.NoError(t, err, tt.expression)
		require.Equal(t, tt.want, got, tt.expression)
	}
}

func TestCurrentTime(t *testing.T) {
	t.Parallel()
	now := tool(t, "current_time")
	for _, zone := range []string{"", "UTC", "Europe/Vienna"} {
		got, err := call(t.Context(), now, map[string]string{"zone": zone})
		require.NoError(t, err)
		at, err := time.Parse(time.RFC3339, got)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), at, time.Minute)
	}
	for _, zone := range []string{"Europe/Nowhere", "../../etc/hosts", "\x00"} {
		_, err := call(t.Context(), now, map[string]string{"zone": zone})
		require.ErrorContains(t, err, "unknown time zone")
	}
}

func TestSearchKnowledge(t *testing.T) {
	t.Parallel()
	search := tool(t, "search_knowledge")
	for _, tt := range []struct{ query, want string }{
		{"callback?", "Callback: "},
		{"How do KEYS work", "Keys: "},
		{"xylophone", "Nothing found."},
		{"", "Nothing found."},
		{"a ? .", "Nothing found."},
	} {
		got, err := call(t.Context(), search, map[string]string{"query": tt.query})
		require.NoError(t, err)
		require.Contains(t, got, tt.want, tt.query)
	}
}

func FuzzCalculator(f *testing.F) {
	for _, seed := range []string{"1+1", "(2 + 3) * 4.5", "1/0", "-(-(1))", "1/3/7*21", "((((", "9.9.9", "1 2", "÷", ".", "-0", "\xff"} {
		f.Add(seed)
	}
	calculator := tool(f, "calculator")
	f.Fuzz(func(t *testing.T, expression string) {
		got, err := call(t.Context(), calculator, map[string]string{"expression": expression})
		if err != nil {
			require.Empty(t, got)
			return
		}
		_, ok := new(big.Rat).SetString(got)
		require.True(t, ok, got)
	})
}
