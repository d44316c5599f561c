//go:build n8n

package recipes_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// n8nVariable names a directory where npm has installed n8n; make recipes-n8n sets
// it. Without it the tests are skipped: n8n is over a gigabyte large.
const n8nVariable = "WEBTRIGGER_N8N"

// patience is how long n8n may take to start, or to execute a workflow.
const patience = 5 * time.Minute

// n8n is an instance on a database and a port of its own, over HTTPS.
type n8n struct {
	t           *testing.T
	dir, home   string
	env         []string
	url         string
	certificate *x509.Certificate
	client      *http.Client
	message     string // in place of the example's; "": that
	database    *pgtest.Server
	name        string // of the database
}

// newN8N prepares an instance.
func newN8N(t *testing.T) *n8n {
	t.Helper()
	dir := os.Getenv(n8nVariable)
	require.NotEmpty(t, dir, n8nVariable+" is not set: run make recipes-n8n")
	n := &n8n{t: t, dir: dir, home: t.TempDir(), database: pgtest.Shared(t)}
	var err error
	n.name, err = n.database.CreateDatabase("n8n")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.database.DropDatabase(n.name)) })
	port := n.certify()
	n.env = append(os.Environ(),
		"N8N_USER_FOLDER="+n.home, "N8N_ENCRYPTION_KEY=for-a-test-alone",
		"DB_TYPE=postgresdb", "DB_POSTGRESDB_HOST=127.0.0.1", "DB_POSTGRESDB_DATABASE="+n.name,
		fmt.Sprintf("DB_POSTGRESDB_PORT=%d", n.database.Port()), "DB_POSTGRESDB_USER="+pgtest.Superuser,
		"N8N_LISTEN_ADDRESS=127.0.0.1", "N8N_PORT="+port, "N8N_PROTOCOL=https", "WEBHOOK_URL="+n.url+"/",
		"N8N_SSL_CERT="+filepath.Join(n.home, "cert.pem"), "N8N_SSL_KEY="+filepath.Join(n.home, "key.pem"),
		"N8N_EXPRESSION_ENGINE=legacy", // the other one needs a native module
		"N8N_ENFORCE_SETTINGS_FILE_PERMISSIONS=true", "N8N_DIAGNOSTICS_ENABLED=false", "N8N_VERSION_NOTIFICATIONS_ENABLED=false",
		"N8N_TEMPLATES_ENABLED=false", "N8N_LICENSE_AUTO_RENEW_ENABLED=false", "N8N_COMMUNITY_PACKAGES_ENABLED=false",
		"GENERIC_TIMEZONE=UTC", "no_proxy=127.0.0.1")
	return n
}

// certify writes a certificate of 127.0.0.1 and its key, and chooses a port.
func (n *n8n) certify() (port string) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	n.certificate = server.Certificate()
	pair := server.TLS.Certificates[0]
	_, port, _ = net.SplitHostPort(server.Listener.Addr().String())
	server.Close()
	n.url = "https://127.0.0.1:" + port
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(n.t, err)
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key},
	} {
		require.NoError(n.t, os.WriteFile(filepath.Join(n.home, name), pem.EncodeToMemory(block), 0o600))
	}
	n.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: n.roots()}}}
	return port
}

func (n *n8n) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(n.certificate)
	return pool
}

func (n *n8n) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "node", append([]string{filepath.Join(n.dir, "node_modules/n8n/bin/n8n")}, args...)...)
	cmd.Env = n.env
	return cmd
}

// run executes one of n8n's commands.
func (n *n8n) run(args ...string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	out, err := n.command(ctx, args...).CombinedOutput()
	require.NoError(n.t, err, "n8n %v: %s", args, out)
}

// load imports a workflow and what its nodes ask for: an API key, and the URL of
// the service in place of the example's. It is due every two seconds.
func (n *n8n) load(file, service, key string) {
	n.t.Helper()
	credentials, err := json.Marshal([]any{map[string]any{
		"id": "webtrigger", "name": "Web Trigger key", "type": "httpBearerAuth", "data": map[string]string{"token": key},
	}})
	require.NoError(n.t, err)
	text, err := os.ReadFile(filepath.Join("../../docs/recipes", file))
	require.NoError(n.t, err)
	const message = "Write the nightly report."
	replaced := map[string]string{"https://app.example.com": service}
	if strings.Contains(string(text), "scheduleTrigger") {
		replaced[message], replaced[`"triggerAtHour": 6`] = cmp.Or(n.message, message), `"field": "seconds", "secondsInterval": 2`
	}
	for old, new := range replaced {
		require.Equal(n.t, 1, strings.Count(string(text), old), old)
		text = []byte(strings.ReplaceAll(string(text), old, new))
	}
	for name, text := range map[string][]byte{"credentials": credentials, "workflow": text} {
		path := filepath.Join(n.home, name+".json")
		require.NoError(n.t, os.WriteFile(path, text, 0o600))
		n.run("import:"+name, "--input="+path)
	}
	n.run("update:workflow", "--all", "--active=true")
}

// start serves until the test ends.
func (n *n8n) start() {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := n.command(ctx, "start")
	var mu sync.Mutex
	var out bytes.Buffer
	cmd.Stdout = writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	})
	cmd.Stderr = cmd.Stdout
	require.NoError(n.t, cmd.Start())
	n.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if n.t.Failed() {
			n.t.Logf("n8n: %s", out.String())
		}
	})
	require.Eventually(n.t, func() bool {
		resp, err := n.client.Get(n.url + "/healthz/readiness")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, patience, 100*time.Millisecond)
}

// post sends a request to a webhook of an active workflow.
func (n *n8n) post(path string, body any) {
	n.t.Helper()
	sent, err := json.Marshal(body)
	require.NoError(n.t, err)
	require.Eventually(n.t, func() bool { // webhooks are registered after the start
		resp, err := n.client.Post(n.url+"/webhook/"+path, "application/json", bytes.NewReader(sent))
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, patience, time.Second)
}

// executed waits until an execution has ended and returns its status and data.
func (n *n8n) executed() (status, data string) {
	n.t.Helper()
	require.Eventually(n.t, func() bool {
		out, err := n.database.Psql(n.name, `SELECT e.status, d.data FROM execution_entity e JOIN execution_data d ON d."executionId" = e.id WHERE e.finished OR e.status IN ('success', 'error', 'crashed') ORDER BY e.id LIMIT 1`)
		require.NoError(n.t, err)
		status, data, _ = strings.Cut(out, "|")
		return status != ""
	}, patience, time.Second)
	return status, data
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
