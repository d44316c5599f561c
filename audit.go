package webtrigger

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/bridge"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// AuditEntry records one administrative write. The store stores it in the transaction
// of the write, so there is no write without its entry and no entry without its write.
type AuditEntry struct {
	ID        int64
	At        time.Time // by the store's clock
	Actor     string    // as SetActor or WithActor named it; "" if neither did
	Action    string    // kind of object and verb, such as "key.revoke"
	Object    string    // kind of object and id, such as "key/17"
	RequestID string    // X-Request-Id of the request; "" for a Go call

	// Detail is a JSON object with the values that were written. It never contains a
	// secret. nil if the action and the object are enough.
	Detail json.RawMessage
}

// About returns the entry with the id of the object that the write has created. An
// object that existed before has its id already.
func (e AuditEntry) About(id int64) AuditEntry {
	if strings.HasSuffix(e.Object, "/") {
		e.Object += strconv.FormatInt(id, 10)
	}
	return e
}

// AuditQuery selects entries of the audit log, newest first. A zero field does not
// limit the selection.
type AuditQuery struct {
	Actor  string
	Object string    // kind and id, such as "key/17"
	From   time.Time // at or after this instant
	To     time.Time // before this instant
	Page   Page
}

// AuditStore stores the audit log.
//
// The context of a write has an entry if the write must be in the log; see [AuditFrom].
// The methods with this duty are SetChannel, SetSigningSecrets, CreateKey, RevokeKey,
// ReplaceKey, CreateTaskDefinition, UpdateTaskDefinition, DeleteTaskDefinition,
// CreateTrigger, RequestStop without a lease, Redeliver and EraseTrigger. Each must store
// the entry in its transition, with the store's time and [AuditEntry.About] the id of a
// created resource. If it changes nothing, it must store no entry.
type AuditStore interface {
	// Audit lists entries, newest first.
	Audit(ctx context.Context, query AuditQuery) ([]AuditEntry, error)
}

// Audit lists the entries of the audit log that match query, newest first.
// [Retention.Audit] is how long they are kept.
func (s *Service) Audit(ctx context.Context, query AuditQuery) ([]AuditEntry, error) {
	query.Page = query.Page.withDefaults()
	return s.store.Audit(ctx, query)
}

// maxActor is the maximum length of an actor's name, in bytes.
const maxActor = 200

// actor is who makes the writes of a context.
type actor struct {
	requestID string

	mu   sync.Mutex
	name string
}

type actorKey struct{}

// WithActor returns a context that names who makes the administrative writes under it,
// such as a user name or "cron". The entries of the audit log contain the name. Invalid
// characters are sanitized, and a name of more than 200 bytes is cut.
func WithActor(ctx context.Context, name string) context.Context {
	requestID := ""
	if a, ok := ctx.Value(actorKey{}).(*actor); ok {
		requestID = a.requestID
	}
	return context.WithValue(ctx, actorKey{}, &actor{requestID: requestID, name: cleanActor(name)})
}

// SetActor names the user of a request for the audit log. An [Authorizer] calls it with
// the request that it has received, before it allows the access. The last call counts.
// It has no effect on a request of the event stream, which writes nothing.
func SetActor(r *http.Request, name string) {
	if a, ok := r.Context().Value(actorKey{}).(*actor); ok {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.name = cleanActor(name)
	}
}

func cleanActor(name string) string { return wire.Truncate(wire.ValidText(name), maxActor) }

func init() {
	bridge.WithRequest = func(ctx context.Context, requestID string) context.Context {
		a := &actor{requestID: requestID}
		if before, ok := ctx.Value(actorKey{}).(*actor); ok {
			a.name = before.get()
		}
		return context.WithValue(ctx, actorKey{}, a)
	}
	bridge.WithAudit = func(ctx context.Context, entry any) context.Context {
		return context.WithValue(ctx, auditKey{}, entry.(AuditEntry))
	}
}

func (a *actor) get() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.name
}

type auditKey struct{}

// AuditFrom returns the entry that the write of a context must store, without ID and At.
// It is for a [Store].
func AuditFrom(ctx context.Context) (AuditEntry, bool) {
	e, ok := ctx.Value(auditKey{}).(AuditEntry)
	return e, ok
}

// audited returns the context of one administrative write. object is the kind and the id
// of what it changes; the id of what it creates follows in the store.
func audited(ctx context.Context, action, object string, detail any) context.Context {
	e := AuditEntry{Action: action, Object: object}
	if a, ok := ctx.Value(actorKey{}).(*actor); ok {
		e.Actor, e.RequestID = a.get(), a.requestID
	}
	if detail != nil {
		e.Detail = mustJSON(detail)
	}
	return context.WithValue(ctx, auditKey{}, e)
}

// auditedTrigger is audited for a trigger, which is the everyday work of a host: it is in
// the log only if a person makes it, in the administration or under WithActor.
func auditedTrigger(ctx context.Context, t *NewTrigger) context.Context {
	if _, ok := AuditFrom(ctx); ok || ctx.Value(actorKey{}) == nil {
		return ctx
	}
	return audited(ctx, "run.create", "run/", map[string]any{"assistant_id": t.AssistantID, "subject": t.Input.Subject})
}

// objectOf is the name of an object of the audit log.
func objectOf(kind string, id int64) string { return fmt.Sprintf("%s/%d", kind, id) }
