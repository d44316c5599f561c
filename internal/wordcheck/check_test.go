package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck_goFile_findsCommentsStringsAndTestNames(t *testing.T) {
	t.Parallel()
	rules, err := parseRules("# a comment\nrefus\\w*\treject\ngo(?:es)? on\tcontinue\n")
	require.NoError(t, err)
	const source = `package p

// A run goes
// on, and nothing refuses it.
var text = "the request was refused"

func TestRun_refused_goesOn() { refuse := 1; _ = refuse }
`
	var got []string
	for _, p := range passages("p.go", []byte(source)) {
		for _, f := range check(rules, nil, "p.go", p.text) {
			got = append(got, f.word+": "+f.rule.instead)
			require.NotZero(t, p.line+f.line)
		}
	}
	require.Equal(t, []string{"refuses: reject", "goes\n// on: continue", "refused: reject", "refused: reject", "goes on: continue"}, got,
		"identifiers in code are not texts")
}

func TestCheck_textFile_findsLine(t *testing.T) {
	t.Parallel()
	rules, err := parseRules("anew\tagain")
	require.NoError(t, err)
	all := passages("a.md", []byte("One.\nTwo begins Anew.\n"))
	require.Len(t, all, 1)
	found := check(rules, nil, "a.md", all[0].text)
	require.Len(t, found, 1)
	require.Equal(t, "Anew", found[0].word)
	require.Equal(t, 2, all[0].line+found[0].line)
}

func TestException_pattern_allowsWordsWithinIt(t *testing.T) {
	t.Parallel()
	rules, err := parseRules("refus\\w*\treject")
	require.NoError(t, err)
	allowed, err := parseExceptions("docs/\tconnection refused\tthe text of an error\n*.md\tnever\tno reason\n")
	require.NoError(t, err)
	require.Empty(t, check(rules, allowed, "docs/a.md", "Connection refused"))
	require.Len(t, check(rules, allowed, "docs/a.md", "a request was refused"), 1)
	require.Len(t, check(rules, allowed, "a.md", "connection refused"), 1, "the path is another")
	require.Equal(t, []*exception{allowed[1]}, unused(allowed))
}

func TestParse_malformedLine_returnsError(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"word", "(\tparenthesis"} {
		_, err := parseRules(list)
		require.Error(t, err, list)
	}
	for _, list := range []string{"a\tb", "a\tb\t", "a\t(\treason", "[\tb\treason"} {
		_, err := parseExceptions(list)
		require.Error(t, err, list)
	}
}

func TestSeparate_testName_isWords(t *testing.T) {
	t.Parallel()
	require.Equal(t, "Test run refused goes on", separate("TestRun_refused_goesOn"))
}

// The lists of the project must be valid.
func TestLists_project_parse(t *testing.T) {
	t.Parallel()
	_, err := parseRules(wordList)
	require.NoError(t, err)
	_, err = parseExceptions(allowList)
	require.NoError(t, err)
}
