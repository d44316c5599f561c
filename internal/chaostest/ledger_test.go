//go:build unix

package chaostest_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// entry is one line of the ledger.
type entry struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"` // acknowledged, call, effect, callback
	RunKey  string    `json:"run_key,omitempty"`
	RunID   int64     `json:"run_id,omitempty"`  // of acknowledged and call
	Trigger string    `json:"trigger,omitempty"` // of acknowledged and call: what the caller names it
	Call    string    `json:"call,omitempty"`    // of call and effect: unique
	Replica string    `json:"replica,omitempty"` // of call
	Status  string    `json:"status,omitempty"`  // of callback: its run_status
	Ended   string    `json:"ended,omitempty"`   // of callback: when the run ended
}

const (
	acknowledged = "acknowledged" // the caller has a 202
	called       = "call"         // the Runner was called
	effect       = "effect"       // the Runner has an effect that cannot be undone
	received     = "callback"     // the receiver has read a callback
)

// ledger is a file to which all processes append. What was added is on the disk.
type ledger struct {
	mu   sync.Mutex
	file *os.File

	syncs   sync.Mutex // one sync at a time
	written int        // lines, guarded by mu
	synced  int        // lines, guarded by syncs
}

func openLedger(path string) (*ledger, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	return &ledger{file: file}, err
}

// add returns when the line is on the disk. Calls at the same time share a sync.
func (l *ledger) add(e entry) error {
	e.At = time.Now()
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	l.mu.Lock()
	_, err = l.file.Write([]byte("\n" + string(line) + "\n")) // a line of a process that was killed may lack its end
	l.written++
	mine := l.written
	l.mu.Unlock()
	if err != nil {
		return err
	}
	l.syncs.Lock()
	defer l.syncs.Unlock()
	if l.synced >= mine {
		return nil
	}
	l.mu.Lock()
	upTo := l.written
	l.mu.Unlock()
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.synced = upTo
	return nil
}

// account is the content of the ledger, as far as it was read.
type account struct {
	offset    int64
	torn      int                // lines that are not whole
	byTrigger map[string]entry   // acknowledged
	calls     map[string][]entry // by run key
	effects   map[string][]entry // by run key
	callbacks map[string][]entry // by run key
}

func newAccount() *account {
	return &account{byTrigger: make(map[string]entry), calls: make(map[string][]entry), effects: make(map[string][]entry),
		callbacks: make(map[string][]entry)}
}

// read reads what was added since the last read.
func (a *account) read(t *testing.T, l *ledger) {
	t.Helper()
	lines := bufio.NewReader(io.NewSectionReader(l.file, a.offset, 1<<40))
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		a.offset += int64(len(line))
		if len(line) == 1 {
			continue
		}
		var e entry
		if json.Unmarshal(line, &e) != nil {
			a.torn++
			continue
		}
		switch e.Kind {
		case acknowledged:
			a.byTrigger[e.Trigger] = e
		case called:
			a.calls[e.RunKey] = append(a.calls[e.RunKey], e)
		case effect:
			a.effects[e.RunKey] = append(a.effects[e.RunKey], e)
		case received:
			a.callbacks[e.RunKey] = append(a.callbacks[e.RunKey], e)
		}
	}
}
