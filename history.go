package webtrigger

import "context"

// Run returns one run.
func (s *Service) RunByID(ctx context.Context, runID int64) (Run, error) {
	return s.store.RunByID(ctx, runID)
}

// Runs lists the runs that query selects, newest first. A query for an
// assistant or a status that cannot exist selects none.
func (s *Service) Runs(ctx context.Context, query RunQuery) ([]Run, error) {
	if query.AssistantID != "" && !ValidAssistantID(query.AssistantID) ||
		query.Status != "" && !query.Status.known() {
		return nil, nil
	}
	query.Page = query.Page.withDefaults()
	return s.store.Runs(ctx, query)
}

// RunInput returns what the caller of a run sent, byte for byte.
func (s *Service) RunInput(ctx context.Context, runID int64) (RunInput, error) {
	return s.store.RunInput(ctx, runID)
}

// Conversation returns one conversation; its id is the trigger_id.
func (s *Service) Conversation(ctx context.Context, conversationID int64) (Conversation, error) {
	return s.store.Conversation(ctx, conversationID)
}

// Messages lists the messages of a conversation in the order they were stored,
// those after the given id (0 starts); a limit of 0 is DefaultPageSize. An
// absent conversation has none.
func (s *Service) Messages(ctx context.Context, conversationID, after int64, limit int) ([]Message, error) {
	return s.store.Messages(ctx, conversationID, after, Page{Limit: limit}.withDefaults().Limit)
}

// known reports whether s is one of the six states.
func (s RunStatus) known() bool {
	return s == RunQueued || s == RunRunning || s.Terminal()
}
