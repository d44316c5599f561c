package releasetest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/needs"
)

const (
	module  = "github.com/webtrigger-go/webtrigger"
	version = "v0.1.0-test.1"
)

// nested are the modules that hosts install beside the root.
var nested = []string{"llm/mcptools", "otelwebtrigger", "store/bunstore/pgxlisten"}

// A consumer is a host: the module that it gets, and the imports and the main function
// of its program.
type consumer struct{ name, get, imports, main string }

var consumers = []consumer{
	{"root and memstore", module, `"` + module + `"; "` + module + `/store/memstore"`, `_, _ = webtrigger.New(memstore.New(nil), nil, nil)`},
	{"bunstore", module + "/store/bunstore", `"` + module + `/store/bunstore"`, `_, _ = bunstore.New(nil, nil)`},
	{"openai", module + "/llm/openai", `"` + module + `/llm/openai"`, `_, _ = openai.New("", nil)`},
	{"anthropic", module + "/llm/anthropic", `"` + module + `/llm/anthropic"`, `_, _ = anthropic.New("", nil)`},
	{"mcptools", module + "/llm/mcptools", `"` + module + `/llm/mcptools"`, `_ = mcptools.HTTP{}`},
	{"otelwebtrigger", module + "/otelwebtrigger", `"` + module + `"; "` + module + `/otelwebtrigger"`, `_ = otelwebtrigger.New; _ = webtrigger.New`},
	{"pgxlisten", module + "/store/bunstore/pgxlisten", `"` + module + `/store/bunstore/pgxlisten"`, `_ = pgxlisten.Listen("")`},
}

func TestRelease_taggedModules_buildInHosts(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a host of each module from nothing")
	}
	t.Parallel()
	repo := repository(t)
	head := output(t, repo, nil, "git", "rev-parse", "HEAD")
	output(t, repo, nil, "sh", "scripts/release.sh", version)
	require.Equal(t, head, output(t, repo, nil, "git", "rev-parse", "HEAD"), "the branch must stay where it was")
	require.Empty(t, output(t, repo, nil, "git", "status", "--porcelain"), "the tree must stay clean")
	tags := []string{version}
	for _, dir := range nested {
		tags = append(tags, dir+"/"+version)
	}
	slices.Sort(tags)
	require.Equal(t, tags, strings.Fields(output(t, repo, nil, "git", "tag")))

	env := append(publish(t, repo), "GOFLAGS="+os.Getenv("GOFLAGS")+" -modcacherw -trimpath", "GOSUMDB=off", "GOPRIVATE=", "GONOPROXY=")
	for _, c := range consumers {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			output(t, dir, env, "go", "mod", "init", "example.com/host")
			output(t, dir, env, "go", "get", c.get+"@"+version)
			main := "package main\n\nimport (" + c.imports + ")\n\nfunc main() { " + c.main + " }\n"
			require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(main), 0o600))
			output(t, dir, env, "go", "build", "-o", "host", ".")
			if c.get != module {
				return
			}
			var others []string
			for line := range strings.Lines(output(t, dir, env, "go", "version", "-m", "host")) {
				if fields := strings.Fields(line); fields[0] == "dep" && fields[1] != module {
					others = append(others, fields[1])
				}
			}
			require.Equal(t, []string{"code.dny.dev/ssrf", "github.com/google/uuid"}, others, "modules in the binary beside the library")
		})
	}
}

func TestRelease_unfitRepository_isRejected(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	head := output(t, repo, nil, "git", "rev-parse", "HEAD")
	for _, c := range []struct {
		name, arg, says string
		spoil           func(t *testing.T, repo string)
	}{
		{"dirty tree", version, "commit or stash the changes first", func(t *testing.T, repo string) {
			require.NoError(t, os.WriteFile(filepath.Join(repo, "new.go"), nil, 0o600))
		}},
		{"existing tag", version, "the tag llm/mcptools/" + version + " exists", func(t *testing.T, repo string) {
			output(t, repo, nil, "git", "tag", "llm/mcptools/"+version)
			t.Cleanup(func() { output(t, repo, nil, "git", "tag", "-d", "llm/mcptools/"+version) })
		}},
		{"no version", "0.1", "0.1 must be a version", nil},
		{"major version 2", "v2.0.0", "v2.0.0 must be a version", nil},
		{"replaced dependency", version, "otelwebtrigger/go.mod must depend on published modules only", func(t *testing.T, repo string) {
			output(t, repo, nil, "go", "mod", "edit", "-replace=github.com/google/uuid=../uuid", "otelwebtrigger/go.mod")
			output(t, repo, nil, "git", "commit", "-qam", "replace")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			output(t, repo, nil, "git", "reset", "-q", "--hard", head)
			output(t, repo, nil, "git", "clean", "-q", "-f", "-d")
			if c.spoil != nil {
				c.spoil(t, repo)
			}
			before := output(t, repo, nil, "git", "tag")
			cmd := exec.Command("sh", "scripts/release.sh", c.arg)
			cmd.Dir = repo
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "%s", out)
			require.Contains(t, string(out), "release: "+c.says)
			require.Equal(t, before, output(t, repo, nil, "git", "tag"), "a rejected release must not leave tags")
		})
	}
}

// repository returns a Git repository with one commit, of the files as they are now.
func repository(t *testing.T) string {
	t.Helper()
	if err := needs.Programs("git", "sh"); err != nil {
		needs.Missing(t, err)
	}
	top, err := filepath.Abs("../..")
	require.NoError(t, err)
	repo := t.TempDir()
	output(t, repo, nil, "git", "init", "-q")
	output(t, repo, nil, "git", "config", "user.name", "Release test")
	output(t, repo, nil, "git", "config", "user.email", "release@example.com")
	output(t, repo, nil, "git", "--work-tree="+top, "add", "-A")
	output(t, repo, nil, "git", "commit", "-q", "-m", "files")
	output(t, repo, nil, "git", "reset", "-q", "--hard")
	return repo
}

// publish writes the tagged modules of a repository into a module proxy, a directory,
// as the go command fetches them. It returns the environment of a machine with an
// empty module cache that has this proxy and the caller's own module cache.
func publish(t *testing.T, repo string) []string {
	t.Helper()
	proxy, cache := t.TempDir(), t.TempDir()
	fetch := []string{
		"GOMODCACHE=" + proxy, "GOFLAGS=-modcacherw", "GOPRIVATE=" + module, "GOWORK=off",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url.file://" + repo + ".insteadOf", "GIT_CONFIG_VALUE_0=https://" + module,
	}
	output(t, proxy, fetch, "go", "mod", "download", module+"@"+version)
	for _, dir := range nested {
		output(t, proxy, fetch, "go", "mod", "download", module+"/"+dir+"@"+version)
		// On a fresh machine, the cache perhaps does not have the dependencies yet.
		output(t, "../../"+dir, []string{"GOWORK=off"}, "go", "list", "-deps", "-test", "./...")
	}
	output(t, "../..", []string{"GOWORK=off"}, "go", "list", "-deps", "-test", "./...")
	output(t, "../..", nil, "go", "list", "-m", "all")
	ours, others := filepath.Join(proxy, "cache", "download"), filepath.Join(output(t, ".", nil, "go", "env", "GOMODCACHE"), "cache", "download")
	return []string{"GOMODCACHE=" + cache, "GOPROXY=file://" + ours + ",file://" + others, "GOWORK=off"}
}

// output runs a command in a directory and returns its standard output.
func output(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), errors.String())
	return strings.TrimSpace(string(out))
}
