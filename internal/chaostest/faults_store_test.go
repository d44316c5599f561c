//go:build unix

package chaostest_test

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// readOnly is a server that accepts no writes, as during a failover.
func readOnly() *fault {
	const setting = "default_transaction_read_only"
	return &fault{name: "read-only window", lasts: time.Second,
		begin: func(r *rig) { require.NoError(r, r.primary.Set(setting, "on")) },
		end:   func(r *rig) { require.NoError(r, r.primary.Set(setting, "off")) },
	}
}

// fullDisk is a server whose disk is full. If this process cannot mount a disk, all
// inserts into the tables fail with the server's error for that.
func fullDisk() *fault {
	return &fault{name: "full disk", lasts: 2 * time.Second,
		begin: func(r *rig) {
			if r.disk != nil && r.primary == r.first {
				require.NoError(r, r.disk.Fill())
				return
			}
			r.Log("the disk of this server cannot be filled: its inserts fail as if it were")
			r.psql(`CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
				'BEGIN RAISE EXCEPTION USING ERRCODE = ''53100'', MESSAGE = ''No space left on device''; END'`)
			for _, table := range []string{"runs", "queue", "ends", "events", "deliveries"} {
				r.psql(`CREATE TRIGGER full_disk BEFORE INSERT ON webtrigger_` + table + ` EXECUTE FUNCTION full_disk()`)
			}
		},
		end: func(r *rig) {
			if r.disk != nil && r.primary == r.first {
				require.NoError(r, r.disk.Free())
				if _, err := r.primary.Psql("postgres", `SELECT 1`); err != nil { // it stops when it cannot write its log
					require.NoError(r, r.primary.Restart(pgtest.Immediate))
				}
				return
			}
			r.psql(`DROP FUNCTION full_disk CASCADE`)
		},
	}
}

const listeners = `FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' AND pid <> pg_backend_pid()`

// deaf is the end of the sessions that listen for notifications. The replicas listen again.
func deaf() *fault {
	return &fault{name: "lost LISTEN", lasts: time.Second,
		begin: func(r *rig) { r.psql(`SELECT pg_terminate_backend(pid) ` + listeners) },
		end: func(r *rig) {
			require.Eventually(r, func() bool { return r.psql(`SELECT count(*) >= 2 `+listeners) == "t" }, 30*time.Second, 100*time.Millisecond,
				"two of the three replicas must listen again")
		},
	}
}
