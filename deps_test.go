package webtrigger_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/webtrigger-go/webtrigger"

// The root package stands on the standard library, google/uuid, the guard's
// address tables and its own internal packages.
func TestRootDependencies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	require.NoError(t, err)
	for path := range strings.FieldsSeq(string(out)) {
		ours := path == module || strings.HasPrefix(path, module+"/internal/")
		require.True(t, ours || path == "github.com/google/uuid" || path == "code.dny.dev/ssrf", "the root package reaches %s", path)
	}
}

// Adapters and handlers stand on the root, and not on each other.
func TestLayers(t *testing.T) {
	t.Parallel()
	for _, layer := range []string{"store/memstore", "store/bunstore", "admin", "llm"} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./"+layer).Output()
		require.NoError(t, err)
		for path := range strings.FieldsSeq(string(out)) {
			rest, ok := strings.CutPrefix(path, module)
			allowed := rest == "" || strings.HasPrefix(rest, "/internal/") || rest == "/"+layer ||
				strings.HasPrefix(rest, "/"+layer+"/internal/") || strings.HasPrefix(layer, "store/") && strings.HasPrefix(rest, "/store/internal/")
			require.True(t, !ok || allowed, "%s reaches %s", layer, path)
		}
	}
}

// A host that imports the root and memstore gets neither an ORM nor a vendor's
// SDK nor a test library in its go.mod.
func TestHostModule(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	require.NoError(t, err)
	host := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(host, name), []byte(text), 0o644))
	}
	write("go.mod", "module example.com/host\n\ngo 1.26\n\nrequire "+module+" v0.0.0\n\nreplace "+module+" => "+here+"\n")
	write("main.go", `package main

import (
	"`+module+`"
	"`+module+`/store/memstore"
)

func main() { _, _ = webtrigger.New(memstore.New(nil), nil, &webtrigger.Options{Workers: -1}) }
`)
	run := func(args ...string) {
		cmd := exec.Command("go", args...)
		cmd.Dir = host
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	run("mod", "tidy")
	run("build", "-o", filepath.Join(host, "host"), ".")
	tidied, err := os.ReadFile(filepath.Join(host, "go.mod"))
	require.NoError(t, err)
	_, required, _ := strings.Cut(string(tidied), "require")
	for line := range strings.Lines(required) {
		path, _, ok := strings.Cut(strings.TrimSpace(line), " v")
		if !ok || strings.Contains(line, "=>") {
			continue
		}
		path = strings.TrimPrefix(path, "require ")
		require.Contains(t, []string{module, "github.com/google/uuid", "code.dny.dev/ssrf"}, strings.TrimPrefix(path, "("), "in the host's go.mod")
	}
}

// The client needs nothing but the standard library and the signature scheme.
func TestClientDependencies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./client").Output()
	require.NoError(t, err)
	for path := range strings.FieldsSeq(string(out)) {
		require.True(t, path == module+"/client" || strings.HasPrefix(path, module+"/internal/"), "client reaches %s", path)
	}
}
