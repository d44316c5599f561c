package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

func TestCredentials_restart_areKept(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "my.db")
	file := db + ".credentials"
	first := start(t, "-db", "sqlite:"+db)
	require.Contains(t, first.Stdout.String(), file)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	stop(t, first)

	second := start(t, "-db", "sqlite:"+db)
	require.Equal(t, first.key, second.key)
	require.Equal(t, first.password, second.password)
	second.ended(second.say("/say hello"))
	require.Equal(t, http.StatusOK, second.do(http.MethodGet, "/admin/api/runs", "", second.basic).Status)
	stop(t, second)

	key := strings.Repeat("ab", 32)
	third := start(t, "-db", "sqlite:"+db, "-key", key, "-admin-password", "of the command line")
	require.Equal(t, key, third.key)
	require.Equal(t, http.StatusOK, third.do(http.MethodGet, "/admin/api/runs", "", func(r *http.Request) {
		r.SetBasicAuth("admin", "of the command line")
	}).Status)
	third.ended(third.say("/say hello"))
	stop(t, third)

	fourth := start(t, "-db", "sqlite:"+db)
	require.Equal(t, first.key, fourth.key, "flags do not change the file")
	require.Equal(t, first.password, fourth.password)
	stop(t, fourth)

	require.NoError(t, os.Remove(db))
	fifth := start(t, "-db", "sqlite:"+db)
	require.Equal(t, first.key, fifth.key, "a new database gets the kept key")
	fifth.ended(fifth.say("/say hello"))
	left, err := filepath.Glob(db + ".credentials.*")
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestCredentials_revokedKey_isReplaced(t *testing.T) {
	t.Parallel()
	db := "sqlite:" + filepath.Join(t.TempDir(), "my.db")
	first := start(t, "-db", db)
	require.Equal(t, http.StatusOK, first.do(http.MethodPost, "/admin/api/keys/1/revoke", "", first.basic).Status)
	stop(t, first)
	second := start(t, "-db", db)
	require.NotEqual(t, first.key, second.key)
	require.Equal(t, first.password, second.password)
	second.ended(second.say("/say hello"))
	stop(t, second)
	require.Equal(t, second.key, start(t, "-db", db).key)
}

func TestCredentials_damagedFile_isNamed(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("0f", 32)
	for name, content := range map[string]string{
		"empty":       "",
		"not JSON":    "hush",
		"cut off":     `{"key": "` + key,
		"no password": `{"key": "` + key + `"}`,
		"no key":      `{"password": "hush"}`,
		"short key":   `{"key": "0f", "password": "hush"}`,
		"upper case":  `{"key": "` + strings.ToUpper(key) + `", "password": "hush"}`,
		"more":        `{"key": "` + key + `", "password": "hush"} x`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := filepath.Join(t.TempDir(), "my.db")
			require.NoError(t, os.WriteFile(db+".credentials", []byte(content), 0o600))
			var stderr bytes.Buffer
			cmd := command(t, "-addr", "127.0.0.1:0", "-db", "sqlite:"+db)
			cmd.Stderr = &stderr
			require.Error(t, cmd.Run())
			require.Contains(t, stderr.String(), db+".credentials is damaged")
			require.NotContains(t, stderr.String(), "hush")
			require.NotContains(t, stderr.String(), key)
			after, err := os.ReadFile(db + ".credentials")
			require.NoError(t, err)
			require.Equal(t, content, string(after), "a damaged file must not be overwritten")

			given := start(t, "-db", "sqlite:"+db, "-key", key, "-admin-password", "given")
			given.ended(given.say("/say the file is not needed"))
		})
	}
}

// Servers that start at the same time on one database use the same credentials, all of
// which are valid.
func TestCredentials_firstStartsAtOnce_agree(t *testing.T) {
	t.Parallel()
	dsn, dir := withPassword(pgtest.Database(t)), t.TempDir()
	servers := make([]*server, 4)
	var wg sync.WaitGroup
	for i := range servers {
		wg.Go(func() { servers[i] = startIn(t, dir, nil, "-db", dsn) })
	}
	wg.Wait()
	for _, s := range servers {
		require.NotNil(t, s)
		require.Equal(t, servers[0].key, s.key)
		require.Equal(t, servers[0].password, s.password)
		s.ended(s.say("/say hello"))
	}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.Regexp(t, regexp.MustCompile(`^webtrigger-postgres-[0-9a-f]{12}\.credentials$`), files[0].Name())
	require.Contains(t, servers[0].Stdout.String(), files[0].Name())
	content, err := os.ReadFile(filepath.Join(dir, files[0].Name()))
	require.NoError(t, err)
	var kept map[string]string
	require.NoError(t, json.Unmarshal(content, &kept))
	require.Equal(t, map[string]string{"key": servers[0].key, "password": servers[0].password}, kept)

	elsewhere := start(t, "-db", dsn) // in another directory
	require.NotEqual(t, servers[0].key, elsewhere.key)
	elsewhere.ended(elsewhere.say("/say hello"))
	servers[0].ended(servers[0].say("/say the key of one server does not end another's"))
	require.NotContains(t, fmt.Sprint(kept), "hush")
}
