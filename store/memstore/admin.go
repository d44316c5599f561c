package memstore

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

type key struct{ webtrigger.Key }

func (k *key) id() int64 { return k.ID }

func (k *key) copy() webtrigger.Key {
	c := k.Key
	c.Scopes = slices.Clone(c.Scopes)
	return c
}

// valid reports whether the key opens anything now.
func (k *key) valid(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

type task struct{ webtrigger.TaskDefinition }

func (t *task) id() int64 { return t.ID }

// Channel implements [webtrigger.ChannelStore].
func (s *Store) Channel(ctx context.Context, assistantID string) (webtrigger.Channel, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Channel{}, err
	}
	defer s.unlock()
	return s.channel(assistantID), nil
}

// channel returns the settings of an assistant, the zero ones if none are
// set.
func (s *Store) channel(assistantID string) webtrigger.Channel {
	settings := s.channels[assistantID]
	settings.AssistantID = assistantID
	return settings
}

// SetChannel implements [webtrigger.ChannelStore].
func (s *Store) SetChannel(ctx context.Context, settings webtrigger.Channel) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	s.channels[settings.AssistantID] = settings
	s.know(settings.AssistantID)
	s.audit(ctx, 0)
	return nil
}

// SigningSecrets implements [webtrigger.ChannelStore].
func (s *Store) SigningSecrets(ctx context.Context, assistantID string) (webtrigger.SigningSecretSet, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.SigningSecretSet{}, err
	}
	defer s.unlock()
	set := s.secrets[assistantID]
	set.Secrets = slices.Clone(set.Secrets)
	return set, nil
}

// SetSigningSecrets implements [webtrigger.ChannelStore].
func (s *Store) SetSigningSecrets(ctx context.Context, assistantID string, secrets []webtrigger.SigningSecret) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	s.secrets[assistantID] = webtrigger.SigningSecretSet{Secrets: slices.Clone(secrets), SetAt: s.now()}
	s.know(assistantID)
	s.audit(ctx, 0)
	return nil
}

// Assistants implements [webtrigger.ChannelStore].
func (s *Store) Assistants(ctx context.Context, after string, limit int) ([]string, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	i, found := slices.BinarySearch(s.sorted, after)
	if found {
		i++
	}
	return slices.Clone(s.sorted[i:min(i+limit, len(s.sorted))]), nil
}

// know adds an assistant to those that are listed.
func (s *Store) know(assistantID string) {
	if i, found := slices.BinarySearch(s.sorted, assistantID); !found {
		s.sorted = slices.Insert(s.sorted, i, assistantID)
	}
}

// CreateKey implements [webtrigger.KeyStore].
func (s *Store) CreateKey(ctx context.Context, newKey webtrigger.NewKey) (webtrigger.Key, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Key{}, err
	}
	defer s.unlock()
	if s.keyOf[newKey.Hash] != nil {
		return webtrigger.Key{}, webtrigger.ErrConflict
	}
	return s.addKey(ctx, newKey), nil
}

func (s *Store) addKey(ctx context.Context, newKey webtrigger.NewKey) webtrigger.Key {
	k := &key{webtrigger.Key{
		ID:          s.keys.nextID(),
		AssistantID: newKey.AssistantID,
		Name:        newKey.Name,
		Prefix:      newKey.Prefix,
		CreatedAt:   s.now(),
		ExpiresAt:   stored(newKey.ExpiresAt),
		Scopes:      slices.Clone(newKey.Scopes),
	}}
	s.keys = append(s.keys, k)
	s.keyOf[newKey.Hash] = k
	s.keysOf[k.AssistantID] = append(s.keysOf[k.AssistantID], k)
	s.know(k.AssistantID)
	s.audit(ctx, k.ID)
	return k.copy()
}

// ReplaceKey implements [webtrigger.KeyStore].
func (s *Store) ReplaceKey(ctx context.Context, keyID int64, newKey webtrigger.NewKey, grace time.Duration) (webtrigger.Key, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Key{}, err
	}
	defer s.unlock()
	old := s.keys.get(keyID)
	if old == nil {
		return webtrigger.Key{}, webtrigger.ErrNotFound
	}
	now := s.now()
	if !old.valid(now) || s.keyOf[newKey.Hash] != nil {
		return webtrigger.Key{}, webtrigger.ErrConflict
	}
	if end := stored(now.Add(grace)); old.ExpiresAt.IsZero() || end.Before(old.ExpiresAt) {
		old.ExpiresAt = end
	}
	return s.addKey(ctx, newKey), nil
}

// TouchKey implements [webtrigger.KeyStore].
func (s *Store) TouchKey(ctx context.Context, keyID int64, precision time.Duration) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if k := s.keys.get(keyID); k != nil {
		if now := s.now(); k.LastUsedAt.IsZero() || now.Sub(k.LastUsedAt) >= precision {
			k.LastUsedAt = now
		}
	}
	return nil
}

// Key implements [webtrigger.KeyStore].
func (s *Store) Key(ctx context.Context, keyID int64) (webtrigger.Key, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Key{}, err
	}
	defer s.unlock()
	k := s.keys.get(keyID)
	if k == nil {
		return webtrigger.Key{}, webtrigger.ErrNotFound
	}
	return k.copy(), nil
}

// Keys implements [webtrigger.KeyStore].
func (s *Store) Keys(ctx context.Context, query webtrigger.KeyQuery) ([]webtrigger.Key, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	all := []*key(s.keys)
	if query.AssistantID != "" {
		all = s.keysOf[query.AssistantID]
	}
	now := s.now()
	var keys []webtrigger.Key
	for k := range newestBefore(all, query.Page.Before) {
		if len(keys) == query.Page.Limit {
			break
		}
		if strings.HasPrefix(k.Prefix, query.Prefix) && (query.Active == nil || *query.Active == k.valid(now)) {
			keys = append(keys, k.copy())
		}
	}
	return keys, nil
}

// RevokeKey implements [webtrigger.KeyStore].
func (s *Store) RevokeKey(ctx context.Context, keyID int64) (webtrigger.Key, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Key{}, err
	}
	defer s.unlock()
	k := s.keys.get(keyID)
	if k == nil {
		return webtrigger.Key{}, webtrigger.ErrNotFound
	}
	if k.RevokedAt.IsZero() {
		k.RevokedAt = s.now()
		s.audit(ctx, 0)
	}
	return k.copy(), nil
}

// Authenticate implements [webtrigger.KeyStore].
func (s *Store) Authenticate(ctx context.Context, hash webtrigger.KeyHash, triggerID, runID int64) (webtrigger.Grant, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Grant{}, err
	}
	defer s.unlock()
	k := s.keyOf[hash]
	if k == nil || !k.valid(s.now()) {
		return webtrigger.Grant{}, webtrigger.ErrNotFound
	}
	grant := webtrigger.Grant{Key: k.copy(), Channel: s.channel(k.AssistantID)}
	conv := s.conversations.get(triggerID)
	if conv == nil || conv.AssistantID != k.AssistantID {
		return grant, nil
	}
	run := s.runs.get(cmp.Or(runID, conv.first))
	if run == nil || run.conv != conv {
		return grant, nil
	}
	summary := run.summary()
	if grant.ResultOmitted = len(run.Result) > webtrigger.MaxGrantResultBytes; !grant.ResultOmitted {
		summary.Result = run.Result
	}
	grant.Run = &summary
	return grant, nil
}

// CreateTaskDefinition implements [webtrigger.TaskDefinitionStore].
func (s *Store) CreateTaskDefinition(ctx context.Context, definition webtrigger.TaskDefinition) (webtrigger.TaskDefinition, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.TaskDefinition{}, err
	}
	defer s.unlock()
	t := &task{cloneTask(definition)}
	s.lastTask++
	t.ID = s.lastTask
	t.CreatedAt = s.now()
	t.UpdatedAt = t.CreatedAt
	s.tasks[t.ID] = t
	s.tasksOf[t.AssistantID] = append(s.tasksOf[t.AssistantID], t)
	s.audit(ctx, t.ID)
	return cloneTask(t.TaskDefinition), nil
}

// TaskDefinition implements [webtrigger.TaskDefinitionStore].
func (s *Store) TaskDefinition(ctx context.Context, taskID int64) (webtrigger.TaskDefinition, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.TaskDefinition{}, err
	}
	defer s.unlock()
	t := s.tasks[taskID]
	if t == nil {
		return webtrigger.TaskDefinition{}, webtrigger.ErrNotFound
	}
	return cloneTask(t.TaskDefinition), nil
}

// TaskDefinitions implements [webtrigger.TaskDefinitionStore].
func (s *Store) TaskDefinitions(ctx context.Context, query webtrigger.TaskDefinitionQuery) ([]webtrigger.TaskDefinition, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	all := s.tasksOf[query.AssistantID]
	if query.AssistantID == "" {
		all = slices.SortedFunc(maps.Values(s.tasks), func(a, b *task) int { return cmp.Compare(a.ID, b.ID) })
	}
	var tasks []webtrigger.TaskDefinition
	for t := range newestBefore(all, query.Page.Before) {
		if len(tasks) == query.Page.Limit {
			break
		}
		if query.Active == nil || *query.Active == t.Active {
			tasks = append(tasks, cloneTask(t.TaskDefinition))
		}
	}
	return tasks, nil
}

// UpdateTaskDefinition implements [webtrigger.TaskDefinitionStore].
func (s *Store) UpdateTaskDefinition(ctx context.Context, definition webtrigger.TaskDefinition) (webtrigger.TaskDefinition, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.TaskDefinition{}, err
	}
	defer s.unlock()
	t := s.tasks[definition.ID]
	if t == nil {
		return webtrigger.TaskDefinition{}, webtrigger.ErrNotFound
	}
	if !definition.UpdatedAt.IsZero() && !definition.UpdatedAt.Equal(t.UpdatedAt) {
		return webtrigger.TaskDefinition{}, webtrigger.ErrConflict
	}
	definition.AssistantID, definition.CreatedAt = t.AssistantID, t.CreatedAt
	if definition.UpdatedAt = s.now(); !definition.UpdatedAt.After(t.UpdatedAt) {
		definition.UpdatedAt = t.UpdatedAt.Add(time.Microsecond)
	}
	t.TaskDefinition = cloneTask(definition)
	s.audit(ctx, 0)
	return cloneTask(t.TaskDefinition), nil
}

// DeleteTaskDefinition implements [webtrigger.TaskDefinitionStore].
func (s *Store) DeleteTaskDefinition(ctx context.Context, taskID int64) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	t := s.tasks[taskID]
	if t == nil {
		return webtrigger.ErrNotFound
	}
	delete(s.tasks, taskID)
	s.tasksOf[t.AssistantID] = slices.DeleteFunc(s.tasksOf[t.AssistantID], func(x *task) bool { return x == t })
	s.audit(ctx, 0)
	return nil
}
