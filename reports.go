package webtrigger

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
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
// CreateTrigger, AnswerInput, RequestStop without a lease, Redeliver and EraseTrigger. Each must store
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

// actorOf returns who makes the writes of a context. named is false if no person does, as
// in a request with an API key.
func actorOf(ctx context.Context) (name string, named bool) {
	a, named := ctx.Value(actorKey{}).(*actor)
	if named {
		name = a.get()
	}
	return name, named
}

// objectOf is the name of an object of the audit log.
func objectOf(kind string, id int64) string { return fmt.Sprintf("%s/%d", kind, id) }

// RunLabels are the texts by which people recognize a run in a list, and the time since
// which it is queued.
type RunLabels struct {
	Subject  string
	KeyName  string    // "" if the run has no API key
	TaskName string    // the current name of the task definition; "" for none or a deleted one
	QueuedAt time.Time // when the run was last queued; zero if it is not queued
}

// DeliveryFilter selects deliveries of all runs, newest first. A zero field does not
// limit the selection.
type DeliveryFilter struct {
	AssistantID string
	Host        string // as Delivery.Host
	States      []DeliveryState
	Last        bool      // only the last delivery of its run
	From        time.Time // created at or after this instant
	To          time.Time // created before this instant
	Page        Page
}

// DeliveryCount is the number of deliveries of a host in a state.
type DeliveryCount struct {
	Host  string
	State DeliveryState
	Count int
}

// StatsHour is the resolution of the statistics.
const StatsHour = time.Hour

// StatsAge is how far statistics reach back, and the longest range of a query. Older counts
// are purged.
const StatsAge = 366 * 24 * time.Hour

// StatsQuery selects the ended runs of a statistic.
type StatsQuery struct {
	AssistantID string    // "" for all assistants
	From        time.Time // beginning of an hour
	To          time.Time // beginning of an hour
	Step        time.Duration
}

// Stats is how runs ended over time, by the store's clock.
type Stats struct {
	Steps    []StatsStep // every step of the query, in order
	Total    StatsStep
	Complete bool         // false if the store has not counted all hours yet; a later call continues
	Errors   []ErrorCount // of the newest failed and timed out runs, most frequent first
}

// StatsStep is the runs that ended within one step. Median and P95 are durations of the
// last attempt, estimated within a fifth; zero if no run has one.
type StatsStep struct {
	From                                   time.Time
	Completed, Failed, Cancelled, TimedOut int
	Median, P95                            time.Duration
}

// ErrorCount is how often an error occurred among the newest failed and timed out runs.
type ErrorCount struct {
	Error     string // error_message, or else status_detail
	Count     int
	LastRunID int64
}

// StatsStore counts ended runs.
type StatsStore interface {
	// EndCounts counts the runs that ended in the steps of query, by step, status and
	// DurationSlot of the last attempt. A run without an attempt has slot -1. A store may
	// keep the counts of past hours, also of runs that are purged later. It may leave
	// hours for a later call, and complete is then false. The current hour must be
	// counted as it is. Hours that ended more than StatsAge ago must not be counted.
	EndCounts(ctx context.Context, query StatsQuery) (counts []EndCount, complete bool, _ error)

	// ErrorCounts counts the errors of the newest limit failed and of the newest limit
	// timed out runs that ended since from, most frequent first.
	ErrorCounts(ctx context.Context, assistantID string, from time.Time, limit int) ([]ErrorCount, error)
}

// EndCount is a number of ended runs.
type EndCount struct {
	Step   int // index of the step, from 0
	Status RunStatus
	Slot   int
	Runs   int
}

// DurationSlots is the number of the slots of durations. Slot 0 is below 1 ms. Slot n ends
// at 2^(n/2) ms, and the last one has all that is longer.
const DurationSlots = 54

// SlotEnd returns the upper end of a slot of durations.
func SlotEnd(slot int) time.Duration {
	return time.Duration(math.Round(math.Pow(2, float64(slot)/2) * float64(time.Millisecond)))
}

// DurationSlot returns the slot of a duration.
func DurationSlot(d time.Duration) int {
	slot := 0
	for slot < DurationSlots-1 && d >= SlotEnd(slot) {
		slot++
	}
	return slot
}

const (
	maxStatsSteps = 750
	countedErrors = 1000 // runs of each status
	shownErrors   = 10
)

// Stats returns how runs ended over time. From and To are rounded to whole hours, and Step
// to at least one. Steps that ended more than StatsAge ago have no runs. It returns a
// [RequestError] if the query is invalid or its range is longer than StatsAge.
func (s *Service) Stats(ctx context.Context, query StatsQuery) (Stats, error) {
	query.From = query.From.UTC().Truncate(StatsHour)
	if to := query.To.UTC().Truncate(StatsHour); to.Before(query.To) {
		query.To = to.Add(StatsHour)
	}
	query.Step = max(query.Step.Truncate(StatsHour), StatsHour)
	var f faults
	if query.AssistantID != "" && !ValidAssistantID(query.AssistantID) {
		f.add("/assistant_id", assistantIDRule)
	}
	n := int((query.To.Sub(query.From) + query.Step - 1) / query.Step)
	if n < 1 || n > maxStatsSteps {
		f.add("/step", fmt.Sprintf("must make 1 to %d steps", maxStatsSteps))
	}
	if query.To.Sub(query.From) > StatsAge+StatsHour { // both are rounded
		f.add("/from", fmt.Sprintf("must be at most %d days before to", StatsAge/(24*time.Hour)))
	}
	if err := f.err(); err != nil {
		return Stats{}, err
	}
	counts, complete, err := s.store.EndCounts(ctx, query)
	if err != nil {
		return Stats{}, fmt.Errorf("count ends: %w", err)
	}
	stats := Stats{Complete: complete, Steps: make([]StatsStep, n)}
	slots := make([][DurationSlots]int, n+1) // the last one is the total
	for i := range stats.Steps {
		stats.Steps[i].From = query.From.Add(time.Duration(i) * query.Step)
	}
	stats.Total.From = query.From
	for _, c := range counts {
		for i, step := range map[int]*StatsStep{c.Step: &stats.Steps[c.Step], n: &stats.Total} {
			step.add(c)
			if c.Slot >= 0 {
				slots[i][c.Slot] += c.Runs
			}
		}
	}
	for i := range stats.Steps {
		stats.Steps[i].Median, stats.Steps[i].P95 = percentile(&slots[i], 0.5), percentile(&slots[i], 0.95)
	}
	stats.Total.Median, stats.Total.P95 = percentile(&slots[n], 0.5), percentile(&slots[n], 0.95)
	if stats.Errors, err = s.store.ErrorCounts(ctx, query.AssistantID, query.From, countedErrors); err != nil {
		return Stats{}, fmt.Errorf("count errors: %w", err)
	}
	stats.Errors = stats.Errors[:min(len(stats.Errors), shownErrors)]
	return stats, nil
}

func (s *StatsStep) add(c EndCount) {
	switch c.Status {
	case RunCompleted:
		s.Completed += c.Runs
	case RunFailed:
		s.Failed += c.Runs
	case RunCancelled:
		s.Cancelled += c.Runs
	case RunTimedOut:
		s.TimedOut += c.Runs
	}
}

// percentile estimates the duration below which a part of the runs lies.
func percentile(slots *[DurationSlots]int, part float64) time.Duration {
	total := 0
	for _, n := range slots {
		total += n
	}
	rank, before := part*float64(total), 0.0
	for i, n := range slots {
		if n > 0 && before+float64(n) >= rank {
			low := time.Duration(0)
			if i > 0 {
				low = SlotEnd(i - 1)
			}
			return low + time.Duration((rank-before)/float64(n)*float64(SlotEnd(i)-low))
		}
		before += float64(n)
	}
	return 0
}
