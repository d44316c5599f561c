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

// ErrNoPgbench reports that the pgbench program is missing.
var ErrNoPgbench = errors.New("pgbench is neither beside the server's programs nor on the PATH")

// tps matches the line that pgbench prints each second: "progress: 3.0 s, 8021.9 tps, …".
var tps = regexp.MustCompile(`progress: [0-9.]+ s, ([0-9.]+) tps`)

// warmUp is how many seconds pass before it counts: until then its connections
// plan the statement for the first time.
const warmUp = 4

// Pgbench runs one statement over and over as a prepared one: Postgres's own
// load program, in C and without HTTP, which is about what the machine can do.
// It returns transactions per second, in whole seconds after the warm-up, and how
// many there were in all.
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
	out, err := exec.CommandContext(ctx, program, "--no-vacuum", "--protocol=prepared", "--progress=1",
		"--client="+strconv.Itoa(clients), "--jobs="+strconv.Itoa(min(clients, 2)), "--time="+strconv.Itoa(warmUp+seconds),
		"--file="+file.Name(), dsn).CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	rates := tps.FindAllSubmatch(out, -1)
	if len(rates) <= warmUp {
		return 0, 0, fmt.Errorf("pgbench reports no second after the first %d: %s", warmUp, out)
	}
	for i, second := range rates {
		n, err := strconv.ParseFloat(string(second[1]), 64)
		if err != nil {
			return 0, 0, fmt.Errorf("pgbench: %w", err)
		}
		transactions += n
		if i >= warmUp {
			rate += n / float64(len(rates)-warmUp)
		}
	}
	return rate, transactions, nil
}
