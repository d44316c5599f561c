package memstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// run is a run with the store's own fields.
type run struct {
	webtrigger.Run
	input      webtrigger.RunInput
	conv       *conversation
	events     []int64 // ids: the event with sequence n is at n-1
	host       string  // of the callback URL
	bounded    bool    // it came with a MaxQueued
	deliveries []*delivery
	stop       *webtrigger.Stop // recorded while it was running
	record     *record          // the idempotency record that names it, while it lives
	purged     int64            // the highest sequence of a purged event; 0: none

	waitsSince time.Duration // queued: when it was last queued
	waitsFrom  time.Time     // waitsSince as a stamp
	process    *process      // running: the process that claimed it
	token      int64         // of the last claim
	finished   int64         // token of the FinishRun that ended it; 0: another transition
	batch      int64         // number of the last event batch stored under the token

	steps map[stepKey]webtrigger.StepRecord // nil: none

	inputs   []*webtrigger.Input
	executed time.Duration // executing time before it waited for input

	queuedAt, waitingAt int // places in the orders of its key and of the store; waitingAt in that of the waiting runs too
}

func (r *run) id() int64 { return r.ID }

func (r *run) copy() webtrigger.Run { return cloneRun(r.Run) }

// summary is a copy without the result and the task definition.
func (r *run) summary() webtrigger.Run {
	c := r.Run
	c.Result, c.TaskDefinition = "", nil
	return cloneRun(c)
}

// ended is a copy without the task definition.
func (r *run) ended() webtrigger.Run {
	c := r.summary()
	c.Result = r.Result
	return c
}

// addMessages appends messages to the run's conversation.
func (r *run) addMessages(now time.Time, messages ...webtrigger.NewMessage) {
	for _, m := range messages {
		r.conv.messages = append(r.conv.messages, webtrigger.Message{
			ID:             int64(len(r.conv.messages)) + 1,
			ConversationID: r.conv.ID,
			RunID:          r.ID,
			Role:           m.Role,
			Content:        m.Content,
			ToolCalls:      cloneCalls(m.ToolCalls),
			ToolCallID:     m.ToolCallID,
			CreatedAt:      now,
		})
	}
}

// RunByID implements [webtrigger.RunStore].
func (s *Store) RunByID(ctx context.Context, runID int64) (webtrigger.Run, error) {
	return s.read(ctx, func() *run { return s.runs.get(runID) }, (*run).copy)
}

// RunSummary implements [webtrigger.RunStore].
func (s *Store) RunSummary(ctx context.Context, runID int64) (webtrigger.Run, error) {
	return s.read(ctx, func() *run { return s.runs.get(runID) }, (*run).summary)
}

// RunByKey implements [webtrigger.RunStore].
func (s *Store) RunByKey(ctx context.Context, runKey string) (webtrigger.Run, error) {
	return s.read(ctx, func() *run { return s.runOf[runKey] }, (*run).summary)
}

// read returns the part of a run that a caller gets.
func (s *Store) read(ctx context.Context, find func() *run, part func(*run) webtrigger.Run) (webtrigger.Run, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Run{}, err
	}
	defer s.unlock()
	r := find()
	if r == nil {
		return webtrigger.Run{}, webtrigger.ErrNotFound
	}
	return part(r), nil
}

// Runs implements [webtrigger.RunStore]. A filter is tried on one run after the
// other, newest first: a rare match among many runs takes long.
func (s *Store) Runs(ctx context.Context, query webtrigger.RunQuery) ([]webtrigger.Run, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	return page(s, &query, (*run).summary), nil
}

// page returns a part of each run of a page.
func page[T any](s *Store, query *webtrigger.RunQuery, part func(*run) T) (list []T) {
	all := s.runs.newestBefore(query.Page.Before)
	if query.OldestFirst {
		all = s.runs.oldestAfter(query.Page.Before)
	}
	for r := range all {
		if len(list) == query.Page.Limit {
			break
		}
		if r.matches(query) {
			list = append(list, part(r))
		}
	}
	return list
}

// RunTexts implements [webtrigger.RunStore].
func (s *Store) RunTexts(ctx context.Context, query webtrigger.RunQuery, all bool) ([]webtrigger.RunTexts, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	return page(s, &query, func(r *run) webtrigger.RunTexts {
		t := webtrigger.RunTexts{RunID: r.ID, RunKey: r.Key, Status: r.Status, CreatedAt: r.CreatedAt, Subject: r.input.Subject,
			RequestID: r.RequestID, ErrorMessage: r.ErrorMessage, StatusDetail: r.StatusDetail}
		if all {
			t.Message, t.Result = r.input.Message, firstRunes(r.Result, webtrigger.SearchedResultRunes)
			if len(r.input.Metadata) <= webtrigger.SearchedMetadataBytes {
				t.Metadata = slices.Clone(r.input.Metadata)
			}
		}
		return t
	}), nil
}

// firstRunes returns the first n characters of a text.
func firstRunes(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}

// CountRuns implements [webtrigger.RunStore].
func (s *Store) CountRuns(ctx context.Context, query webtrigger.RunQuery, limit int) (map[webtrigger.RunStatus]int, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	counts := make(map[webtrigger.RunStatus]int)
	for r := range s.runs.newestBefore(0) {
		if r.matches(&query) && counts[r.Status] < limit {
			counts[r.Status]++
		}
	}
	return counts, nil
}

// RunLabels implements [webtrigger.RunStore].
func (s *Store) RunLabels(ctx context.Context, runIDs []int64) (map[int64]webtrigger.RunLabels, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	labels := make(map[int64]webtrigger.RunLabels, len(runIDs))
	for _, id := range runIDs {
		r := s.runs.get(id)
		if r == nil {
			continue
		}
		l := webtrigger.RunLabels{Subject: r.input.Subject}
		if k := s.keys.get(r.KeyID); k != nil {
			l.KeyName = k.Name
		}
		if t := s.tasks[r.TaskDefinitionID]; t != nil {
			l.TaskName = t.Name
		}
		if r.Status == webtrigger.RunQueued {
			l.QueuedAt = r.waitsFrom
		}
		labels[id] = l
	}
	return labels, nil
}

func (r *run) matches(query *webtrigger.RunQuery) bool {
	return (query.AssistantID == "" || query.AssistantID == r.AssistantID) &&
		(len(query.Statuses) == 0 || slices.Contains(query.Statuses, r.Status)) &&
		(query.KeyID == 0 || query.KeyID == r.KeyID) &&
		(len(query.IDs) == 0 || slices.Contains(query.IDs, r.ID)) &&
		(query.ConversationID == 0 || query.ConversationID == r.ConversationID) &&
		(query.TaskDefinitionID == 0 || query.TaskDefinitionID == r.TaskDefinitionID) &&
		(len(query.CallbackStates) == 0 || len(r.deliveries) > 0 && slices.Contains(query.CallbackStates, r.deliveries[len(r.deliveries)-1].State)) &&
		(query.From.IsZero() || !r.CreatedAt.Before(query.From)) &&
		(query.To.IsZero() || r.CreatedAt.Before(query.To))
}

// RunInput implements [webtrigger.RunStore].
func (s *Store) RunInput(ctx context.Context, runID int64) (webtrigger.RunInput, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.RunInput{}, err
	}
	defer s.unlock()
	r := s.runs.get(runID)
	if r == nil {
		return webtrigger.RunInput{}, webtrigger.ErrNotFound
	}
	return cloneInput(r.input), nil
}

// Conversation implements [webtrigger.RunStore].
func (s *Store) Conversation(ctx context.Context, conversationID int64) (webtrigger.Conversation, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Conversation{}, err
	}
	defer s.unlock()
	conv := s.conversations.get(conversationID)
	if conv == nil {
		return webtrigger.Conversation{}, webtrigger.ErrNotFound
	}
	return cloneConversation(conv.Conversation), nil
}

// Conversations implements [webtrigger.RunStore].
func (s *Store) Conversations(ctx context.Context, query webtrigger.ConversationQuery) ([]webtrigger.ConversationSummary, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	var list []webtrigger.ConversationSummary
	for conv := range s.conversations.newestBefore(query.Page.Before) {
		if len(list) == query.Page.Limit {
			break
		}
		if query.AssistantID != "" && query.AssistantID != conv.AssistantID || query.Key != "" && query.Key != conv.Key {
			continue
		}
		summary := webtrigger.ConversationSummary{Conversation: conv.Conversation, LastRun: conv.runs[len(conv.runs)-1].summary()}
		summary.Metadata = nil
		list = append(list, summary)
	}
	return list, nil
}

// Owner implements [webtrigger.Store].
func (s *Store) Owner(ctx context.Context, kind webtrigger.ResourceKind, id int64) (owner webtrigger.Owner, _ error) {
	if err := s.lock(ctx); err != nil {
		return owner, err
	}
	defer s.unlock()
	switch kind {
	case webtrigger.ResourceConversation:
		if conv := s.conversations.get(id); conv != nil {
			return webtrigger.Owner{AssistantID: conv.AssistantID, ConversationID: id}, nil
		}
	case webtrigger.ResourceRun:
		if r := s.runs.get(id); r != nil {
			return webtrigger.Owner{AssistantID: r.AssistantID, ConversationID: r.ConversationID}, nil
		}
	case webtrigger.ResourceTaskDefinition:
		if t := s.tasks[id]; t != nil {
			return webtrigger.Owner{AssistantID: t.AssistantID}, nil
		}
	case webtrigger.ResourceDelivery:
		if d := s.deliveries.get(id); d != nil {
			return webtrigger.Owner{AssistantID: d.AssistantID, ConversationID: d.ConversationID}, nil
		}
	}
	return owner, webtrigger.ErrNotFound
}

// Messages implements [webtrigger.RunStore].
func (s *Store) Messages(ctx context.Context, query webtrigger.MessageQuery) ([]webtrigger.Message, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	conv := s.conversations.get(query.ConversationID)
	if conv == nil {
		return nil, nil
	}
	var page []webtrigger.Message
	for _, m := range conv.messages[min(query.After, int64(len(conv.messages))):] {
		if len(page) == query.Limit {
			break
		}
		if m.ID != 0 && (query.RunID == 0 || query.RunID == m.RunID) { // not purged
			page = append(page, m)
		}
	}
	return cloneMessages(page), nil
}

func cloneMessages(messages []webtrigger.Message) []webtrigger.Message {
	messages = slices.Clone(messages)
	for i := range messages {
		messages[i].ToolCalls = cloneCalls(messages[i].ToolCalls)
	}
	return messages
}

func cloneCalls(calls []webtrigger.ToolCall) []webtrigger.ToolCall {
	calls = slices.Clone(calls)
	for i := range calls {
		calls[i].Arguments = slices.Clone(calls[i].Arguments)
	}
	return calls
}

func sizeOf(m *webtrigger.Message) int {
	return (&webtrigger.NewMessage{Content: m.Content, ToolCalls: m.ToolCalls, ToolCallID: m.ToolCallID}).Size()
}

// History implements [webtrigger.RunStore].
func (s *Store) History(ctx context.Context, query webtrigger.HistoryQuery) ([]webtrigger.Message, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	conv := s.conversations.get(query.ConversationID)
	if conv == nil {
		return nil, nil
	}
	var earlier []webtrigger.Message
	for _, m := range conv.messages {
		if m.ID != 0 && m.RunID < query.BeforeRunID {
			earlier = append(earlier, m)
		}
	}
	slices.SortStableFunc(earlier, func(a, b webtrigger.Message) int { return cmp.Compare(a.RunID, b.RunID) })
	first, size := len(earlier), 0
	for first > 0 && len(earlier)-first < query.MaxMessages && size+sizeOf(&earlier[first-1]) <= query.MaxBytes {
		first--
		size += sizeOf(&earlier[first])
	}
	return cloneMessages(earlier[first:]), nil
}

// RequestStop implements [webtrigger.RunStore].
func (s *Store) RequestStop(ctx context.Context, runID int64, stop webtrigger.Stop, lease *webtrigger.Lease) (webtrigger.Run, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Run{}, err
	}
	defer s.unlock()
	now := s.now()
	r := s.runs.get(runID)
	if r == nil {
		return webtrigger.Run{}, webtrigger.ErrNotFound
	}
	if lease != nil && s.held(*lease) != r {
		return webtrigger.Run{}, webtrigger.ErrLeaseLost
	}
	if r.Status.Terminal() || r.stop != nil {
		return r.copy(), nil
	}
	s.stop(r, stop, now)
	s.audit(ctx, 0)
	return r.copy(), nil
}

// stop records the first stop of an unfinished run. A queued or waiting run ends.
func (s *Store) stop(r *run, stop webtrigger.Stop, now time.Time) {
	r.stop = &stop
	if stop.Status == webtrigger.RunCancelled {
		s.log(r, now, webtrigger.CancelRequestedEvent(stop))
	}
	if r.Status != webtrigger.RunRunning {
		s.end(r, webtrigger.Outcome{}, now)
	} else {
		s.hint.Stopped = append(s.hint.Stopped, r.ID)
	}
}
