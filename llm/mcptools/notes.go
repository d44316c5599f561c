package mcptools

import (
	"context"
	"log/slog"
	"sync"
)

// notes logs each kind of misbehavior of a server once, so that a server that
// misbehaves all the time does not fill the log.
type notes struct {
	log  *slog.Logger
	seen sync.Map // of kinds that were logged
}

func newNotes(log *slog.Logger) *notes { return &notes{log: log} }

func (n *notes) once(level slog.Level, message, reason string, args ...any) {
	if _, seen := n.seen.LoadOrStore(message+"\x00"+reason, true); !seen {
		n.log.Log(context.Background(), level, message, append(args, "reason", reason)...)
	}
}

// skipped logs output of a server that is not delivered to the SDK. The output
// itself is not logged, because it may contain secrets.
func (n *notes) skipped(reason string, size int) {
	n.once(slog.LevelWarn, "MCP server output skipped", reason, "bytes", size)
}
