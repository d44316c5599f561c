package streams_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// nginxVariable names a program that is not where findNginx looks by itself.
const nginxVariable = "WEBTRIGGER_NGINX"

// nginxPlaces are where packages put it. scripts/deps.sh looks there as well.
var nginxPlaces = []string{"nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx", "/opt/homebrew/bin/nginx", "/usr/local/bin/nginx"}

// findNginx returns the path of the program; "" where there is none.
func findNginx(t *testing.T) string {
	t.Helper()
	for _, place := range append([]string{os.Getenv(nginxVariable)}, nginxPlaces...) {
		if path, err := exec.LookPath(place); err == nil {
			return path
		}
	}
	lacking(t, "nginx is not installed: run scripts/deps.sh")
	return ""
}

// nginxConfig is what docs/streaming.md shows, around it what nginx needs to run
// as an ordinary process in a directory of its own. Buffers are on, the readers'
// sockets small. Below /old/ it speaks HTTP/1.0 to the host, as nginx 1.22 does by
// default: there are no chunks then, and only the host's word keeps events from
// waiting in a buffer until that is full.
const nginxConfig = `
daemon off;
master_process off;
pid nginx.pid;
error_log error.log warn;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen %[1]s sndbuf=8k;
		location /conversations/ {
			proxy_pass http://%[2]s;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_buffering on;
		}
		location /old/ {
			proxy_pass http://%[2]s/;
			proxy_http_version 1.0;
			proxy_buffering on;
		}
	}
}
`

// startNginx starts nginx in front of a server for the length of a test and returns
// its URL.
func startNginx(t *testing.T, program, upstream string) string {
	t.Helper()
	for range 5 {
		if addr, ok := tryNginx(t, program, upstream); ok {
			return "http://" + addr
		}
	}
	require.FailNow(t, "nginx finds no free port")
	return ""
}

// tryNginx starts nginx on a port that was free a moment ago. A shell between the
// two ends it even if this process is killed.
func tryNginx(t *testing.T, program, upstream string) (addr string, ok bool) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr = listener.Addr().String()
	require.NoError(t, listener.Close())
	dir := t.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, nginxConfig, addr, upstream), 0o600))

	shell := exec.Command("sh", "-c", `"$@" & read -r _; kill "$!"; wait "$!"`, "sh",
		program, "-p", dir, "-e", "error.log", "-c", config)
	var stderr bytes.Buffer
	shell.Stderr = &stderr
	stdin, err := shell.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, shell.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = shell.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("nginx: %s%s", &stderr, log)
		}
	})
	require.Eventually(t, func() bool {
		log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
		if bytes.Contains(log, []byte("Address already in use")) {
			return true
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		ok = true
		_ = conn.Close()
		return true
	}, patience, 5*time.Millisecond)
	return addr, ok
}

// Readers behind nginx who never read are cut off by the host's write deadline,
// since nginx does not read for them either; and who reads is not held up by them.
func TestStalledReadersBehindNginx(t *testing.T) {
	t.Parallel()
	const stalled, healthy, steps = 20, 3, 4000
	program := findNginx(t)
	if program == "" {
		t.Skip("there is no nginx on this machine")
	}
	h := newHost(t)
	base := startNginx(t, program, h.addr)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	text := strings.Repeat("x", 2000)
	for n := range steps { // 8 MB to replay, more than all sockets on the way hold
		h.steps <- map[string]any{"n": n, "text": text}
	}
	addr := strings.TrimPrefix(base, "http://")
	for range stalled {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.(*net.TCPConn).SetReadBuffer(4<<10))
		_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: app.example.com\r\n\r\n", h.path())
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return h.open.Load() == stalled }, patience, time.Millisecond)
	readers := make([]*bufio.Scanner, healthy)
	for i := range readers {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s%s&after_sequence=%d", base, h.path(), steps+2), nil)
		require.NoError(t, err)
		r, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer r.Body.Close()
		require.Equal(t, http.StatusOK, r.StatusCode)
		readers[i] = bufio.NewScanner(r.Body)
	}
	for n := 0; h.open.Load() > healthy; n++ { // for 1 s, in which no reader waits
		require.NoError(t, ctx.Err(), "the deadline cuts them off")
		began := time.Now()
		h.steps <- map[string]any{"n": n, "text": "live"}
		for _, r := range readers {
			require.Contains(t, nextData(t, r), fmt.Sprintf(`"n":%d,`, n))
		}
		require.Less(t, time.Since(began), 10*time.Second)
	}
	close(h.steps)
	for _, r := range readers {
		require.Contains(t, nextData(t, r), "run_completed")
		for r.Scan() {
			require.Empty(t, r.Text(), "the stream ends")
		}
		require.NoError(t, r.Err())
	}
}

// nextData returns the next line of data.
func nextData(t *testing.T, lines *bufio.Scanner) string {
	t.Helper()
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			return data
		}
	}
	require.FailNow(t, "the stream has ended", "%v", lines.Err())
	return ""
}
