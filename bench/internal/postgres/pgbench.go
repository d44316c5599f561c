package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// ErrNoPgbench says that the pgbench program is not there.
var ErrNoPgbench = errors.New("pgbench is neither beside the server's programs nor on the PATH")

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

// Pgbench runs one statement over and over as a prepared one: Postgres's own
// load program, in C and without HTTP, which is about what the machine can do.
// It returns transactions per second and how many there were. It measures whole
// seconds.
func (s *Server) Pgbench(ctx context.Context, dsn, script string, clients int, window time.Duration) (rate, transactions float64, err error) {
	program := filepath.Join(s.bin, "pgbench")
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath("pgbench"); err != nil {
			return 0, 0, ErrNoPgbench
		}
	}
	file, err := os.CreateTemp("", "bench-*.sql")
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(script)
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, 0, err
	}
	seconds := max(1, int(math.Round(window.Seconds())))
	out, err := exec.CommandContext(ctx, program, "--no-vacuum", "--protocol=prepared",
		"--client="+strconv.Itoa(clients), "--jobs="+strconv.Itoa(min(clients, 2)), "--time="+strconv.Itoa(seconds),
		"--file="+file.Name(), dsn).CombinedOutput()
	found := tps.FindSubmatch(out)
	if err != nil || found == nil {
		return 0, 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	rate, err = strconv.ParseFloat(string(found[1]), 64)
	return rate, rate * float64(seconds), err
}
