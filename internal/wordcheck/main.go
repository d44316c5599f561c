// Command wordcheck reports words that the project's texts do not use: in comments,
// strings and test names of Go files, and in all other text files. words.txt has the
// words and what to write instead, allow.txt the exceptions.
//
// It must be run in the root of the repository. It prints one line for each finding and
// exits with the status 1 if there are any. With -count it prints only how often each
// word occurs.
package main

import (
	"bytes"
	_ "embed"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
)

var (
	//go:embed words.txt
	wordList string
	//go:embed allow.txt
	allowList string
)

func main() {
	log.SetFlags(0)
	count := flag.Bool("count", false, "print how often each word occurs")
	flag.Parse()

	rules, err := parseRules(wordList)
	if err != nil {
		log.Fatal("words.txt: ", err)
	}
	allowed, err := parseExceptions(allowList)
	if err != nil {
		log.Fatal("allow.txt: ", err)
	}
	files, err := tracked()
	if err != nil {
		log.Fatal(err)
	}

	found := make(map[*rule]int)
	total := 0
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		for _, p := range passages(name, content) {
			for _, f := range check(rules, allowed, name, p.text) {
				found[f.rule]++
				total++
				if !*count {
					fmt.Printf("%s:%d: %q: write %s\n", name, p.line+f.line, f.word, f.rule.instead)
				}
			}
		}
	}
	if *count {
		for i := range rules {
			fmt.Printf("%6d  %s\n", found[&rules[i]], rules[i].text)
		}
		return
	}
	for _, e := range unused(allowed) {
		total++
		fmt.Printf("allow.txt: %s: %s allows nothing: remove it\n", e.glob, e.pattern)
	}
	if total > 0 {
		os.Exit(1)
	}
}

// tracked lists the files whose texts are the project's own.
func tracked() ([]string, error) {
	out, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	var files []string
	for name := range bytes.SplitSeq(out, []byte{0}) {
		name := string(name)
		if _, err := os.Stat(name); err == nil && ours(name) {
			files = append(files, name)
		}
	}
	return files, nil
}

// ours reports whether people write the file. Generated files follow their sources, and
// test data has texts of others.
func ours(name string) bool {
	switch {
	case strings.Contains(name, "testdata/"), strings.HasSuffix(name, "openapi.json"), strings.HasSuffix(name, ".gen.go"),
		strings.HasPrefix(name, "internal/wordcheck/"):
		return false
	}
	for _, suffix := range []string{".go", ".md", ".yaml", ".yml", ".sh", ".sql", ".html", ".js", ".css", "Makefile", ".ci/run"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}
