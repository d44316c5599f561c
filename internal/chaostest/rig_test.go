//go:build unix

package chaostest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/servertest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

const (
	lease    = 5 * time.Second // a renewal has a third of it, and a busy machine needs a second for that
	patience = 90 * time.Second
)

// loopback is where the receivers of callbacks are.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// rig is a cluster with three replicas under load.
type rig struct {
	*testing.T
	*cluster
	db         *bun.DB // of the test's own process, which is the host in tests of its transactions
	store      *bunstore.Store
	service    *webtrigger.Service
	ledger     *ledger
	ledgerPath string
	receivers  *receivers
	roots      string
	bouncer    *pgtest.PgBouncer
	replicas   [3]*replica
	front      *replica // serves only, in the test's own process
	client     *http.Client
	load       *load
	account    *account

	mu    sync.Mutex
	kills []time.Time
}

// replica is a process that serves and works. The first one is the one whose runs have
// one attempt: no fault concerns it alone, so none of its runs is executed twice, and
// all complete. The third one is behind PgBouncer.
type replica struct {
	spec replicaSpec
	link *pgtest.Proxy // between the replica and the store

	mu      sync.Mutex
	process *servertest.Process
	url     string
}

func (r *replica) current() (process *servertest.Process, url string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process, r.url
}

// signal signals the process.
func (r *replica) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	p, _ := r.current()
	require.NoError(t, p.Cmd.Process.Signal(s))
}

// newRig starts everything but the replicas and the load.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, cluster: newCluster(t), account: newAccount(),
		client: &http.Client{Timeout: 6 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 50}}}
	t.Cleanup(r.client.CloseIdleConnections)
	var err error
	r.ledgerPath = filepath.Join(t.TempDir(), "ledger")
	r.ledger, err = openLedger(r.ledgerPath)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.ledger.file.Close()) })
	r.load = newLoad(r)
	r.receivers = newReceivers(t, r.ledger, r.load.arrived)
	r.roots = r.receivers.roots()
	r.openStore()
	r.bouncer, err = pgtest.StartPgBouncer(r.primary, &pgtest.BouncerOptions{ServerPort: r.address.Port(), PoolSize: 20})
	require.NoError(t, err)
	t.Cleanup(r.bouncer.Stop)
	return r
}

// startReplicas starts the replicas, each with a number of workers and a limit of running
// runs for each assistant (0: none).
func (r *rig) startReplicas(workers, running int) {
	r.Helper()
	for i := range r.replicas {
		x := &replica{}
		if i == 2 {
			x.link = startProxy(r.T, r.bouncer.Port())
		} else {
			x.link = startProxy(r.T, r.primary.Port())
			r.follow = append(r.follow, x.link)
		}
		x.spec = replicaSpec{Name: string(rune('a' + i)), DSN: x.link.DSN(r.database), Pooled: i == 2, Attempts: min(1+2*i, 3),
			Lease: lease, Workers: workers, Running: running, Ledger: r.ledgerPath, Roots: r.roots}
		r.replicas[i] = x
		x.process, x.url = r.start(x)
	}
}

func (r *rig) openStore() {
	r.db = openDB(r.address.DSN(r.database))
	r.Cleanup(func() { assert.NoError(r.T, r.db.Close()) })
	var err error
	r.store, err = bunstore.New(r.db, nil)
	require.NoError(r, err)
	r.Cleanup(func() { assert.NoError(r.T, r.store.Close()) })
	require.NoError(r, r.store.Migrate(r.Context()))
	r.service, err = webtrigger.New(r.store, nil, &webtrigger.Options{BaseURL: "https://app.example.com", NoWorkers: true,
		Callback: webtrigger.CallbackOptions{Allow: loopback}})
	require.NoError(r, err)
	front := httptest.NewServer(r.service)
	r.Cleanup(front.Close)
	r.front = &replica{url: front.URL}
	for _, a := range r.load.assistants {
		require.NoError(r, r.service.SetChannel(r.Context(), webtrigger.Channel{AssistantID: a.id, Enabled: true, AllowCallbackURLs: true}))
		_, err := r.service.ImportKey(r.Context(), a.id, webtrigger.KeySpec{Name: "chaos"}, a.key)
		require.NoError(r, err)
	}
}

var printedURL = regexp.MustCompile(`(?m)^(http://\S+)$`)

// start starts the process of a replica.
func (r *rig) start(x *replica) (*servertest.Process, string) {
	r.Helper()
	spec, err := json.Marshal(x.spec)
	require.NoError(r, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envReplica+"="+string(spec))
	in, err := cmd.StdinPipe()
	require.NoError(r, err)
	r.Cleanup(func() { in.Close() })
	p := servertest.Start(r, cmd)
	return p, p.Printed(r, printedURL)
}

// kill kills a replica (SIGKILL) and starts it again.
func (r *rig) kill(x *replica) {
	r.Helper()
	p, _ := x.current()
	at := p.Kill()
	r.mu.Lock()
	r.kills = append(r.kills, at)
	r.mu.Unlock()
	process, url := r.start(x)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.process, x.url = process, url
}

// stop ends the load and drains the replicas.
func (r *rig) stop() {
	r.Helper()
	for _, x := range r.replicas {
		x.signal(r.T, syscall.SIGTERM)
	}
	for _, x := range r.replicas {
		p, _ := x.current()
		select {
		case <-p.Exited:
			require.True(r, p.Cmd.ProcessState.Success(), "replica %s: %s", x.spec.Name, p.Stderr)
		case <-time.After(patience):
			require.Fail(r, "a replica does not drain", x.spec.Name)
		}
	}
}

// probe returns when a replica has accepted a trigger whose callback has arrived.
func (r *rig) probe(x *replica) error {
	one := r.load.assistants[0]
	sent := r.load.send(one, work{}, func() *replica { return x })
	if sent == nil {
		return fmt.Errorf("replica %s accepts no triggers", x.spec.Name)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if _, ok := r.load.total(sent); ok {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the callback of a trigger at replica %s does not arrive", x.spec.Name)
		}
	}
}

// open counts the runs up to an id that have not ended.
func (r *rig) open(upTo int64) (n int) {
	if err := r.db.NewRaw(`SELECT count(*) FROM webtrigger_queue WHERE run_id <= ?`, upTo).Scan(r.Context(), &n); err != nil {
		return -1 // the store is not back
	}
	return n
}

// recovered waits until each replica has accepted and executed a trigger, and all runs
// that were acknowledged before have ended. It returns how long that took.
func (r *rig) recovered(since time.Time) time.Duration {
	r.Helper()
	upTo := r.load.lastRun()
	var all sync.WaitGroup
	var took [len(r.replicas)]time.Duration
	for i, x := range r.replicas {
		all.Go(func() {
			assert.NoError(r.T, r.probe(x))
			took[i] = time.Since(since).Round(time.Millisecond)
		})
	}
	for deadline := time.Now().Add(patience); r.open(upTo) != 0; time.Sleep(50 * time.Millisecond) {
		require.True(r, time.Now().Before(deadline), "%d runs that were acknowledged before the fault's end do not end", r.open(upTo))
	}
	ended := time.Since(since).Round(time.Millisecond)
	all.Wait()
	r.T.Logf("after its end, the replicas work after %v, and the earlier runs have ended after %v", took, ended)
	return time.Since(since)
}

// logs are the last lines of the replicas' logs that contain a word.
func (r *rig) logs(word string) string {
	var found []string
	for _, x := range r.replicas {
		p, _ := x.current()
		for line := range strings.Lines(p.Stderr.String()) {
			if strings.Contains(line, word) {
				found = append(found, line)
			}
		}
	}
	return strings.Join(found[max(0, len(found)-20):], "")
}
