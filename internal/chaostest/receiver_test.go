//go:build unix

package chaostest_test

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// receivers receive callbacks: at one address as they should, and at one slowly. They
// write to the ledger.
type receivers struct {
	t          *testing.T
	ledger     *ledger
	good, slow *httptest.Server
	arrived    func(runKey string)
}

// slowness is less than the 10 s that a callback has.
const slowness = 4 * time.Second

func newReceivers(t *testing.T, l *ledger, arrived func(runKey string)) *receivers {
	t.Helper()
	r := &receivers{t: t, ledger: l, arrived: arrived}
	start := func(h http.HandlerFunc) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // replicas die in mid-handshake
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	r.good = start(r.receive)
	r.slow = start(func(w http.ResponseWriter, req *http.Request) {
		r.receive(w, req)
		time.Sleep(slowness)
	})
	return r
}

// reads reports whether the receiver of a URL reads callbacks.
func (r *receivers) reads(url string) bool {
	return strings.HasPrefix(url, r.good.URL) || strings.HasPrefix(url, r.slow.URL)
}

// roots is a file with the certificate of the receivers.
func (r *receivers) roots() string {
	path := filepath.Join(r.t.TempDir(), "roots.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: r.good.Certificate().Raw}
	require.NoError(r.t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	return path
}

func (r *receivers) receive(w http.ResponseWriter, req *http.Request) {
	var body struct {
		RunKey      string `json:"run_key"`
		Status      string `json:"status"`
		CompletedAt string `json:"completed_at"`
	}
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender was killed
	}
	if !assert.NoError(r.t, json.Unmarshal(raw, &body), "%s", raw) {
		return
	}
	assert.NoError(r.t, r.ledger.add(entry{Kind: received, RunKey: body.RunKey, Status: body.Status, Ended: body.CompletedAt}))
	r.arrived(body.RunKey)
}
