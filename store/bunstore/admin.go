package bunstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Channel implements [webtrigger.ChannelStore].
func (s *Store) Channel(ctx context.Context, assistantID string) (webtrigger.Channel, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Channel{}, err
	}
	defer cancel()
	settings, err := s.pool().channel(ctx, assistantID)
	return settings, s.wrap("read channel", err)
}

func (q session) channel(ctx context.Context, assistantID string) (webtrigger.Channel, error) {
	settings := webtrigger.Channel{AssistantID: assistantID}
	rows, err := q.rows(ctx, `SELECT enabled, allow_callback_urls FROM {channels} WHERE assistant_id = $1`, assistantID)
	return settings, each(rows, err, func(row scanner) error { // none: the zero settings
		return row.Scan(&settings.Enabled, &settings.AllowCallbackURLs)
	})
}

// SetChannel implements [webtrigger.ChannelStore].
func (s *Store) SetChannel(ctx context.Context, settings webtrigger.Channel) error {
	return s.write(ctx, "set channel", func(t *tx) error {
		_, err := t.exec(t.ctx, `INSERT INTO {channels} (assistant_id, enabled, allow_callback_urls) VALUES ($1, $2, $3)
			ON CONFLICT (assistant_id) DO UPDATE SET enabled = excluded.enabled, allow_callback_urls = excluded.allow_callback_urls`,
			settings.AssistantID, settings.Enabled, settings.AllowCallbackURLs)
		if err != nil {
			return err
		}
		return t.audit(0)
	})
}

// SigningSecrets implements [webtrigger.ChannelStore].
func (s *Store) SigningSecrets(ctx context.Context, assistantID string) (set webtrigger.SigningSecretSet, _ error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return set, err
	}
	defer cancel()
	rows, err := s.rows(ctx, `SELECT signing_secrets, secrets_set_at FROM {channels} WHERE assistant_id = $1`, assistantID)
	err = each(rows, err, func(row scanner) error { return row.Scan(secretList{&set.Secrets}, stamp{&set.SetAt}) })
	return set, s.wrap("read signing secrets", err)
}

// SetSigningSecrets implements [webtrigger.ChannelStore].
func (s *Store) SetSigningSecrets(ctx context.Context, assistantID string, secrets []webtrigger.SigningSecret) error {
	texts := make([]string, len(secrets))
	for i, secret := range secrets {
		texts[i] = secret.Reveal()
	}
	return s.write(ctx, "set signing secrets", func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		_, err = t.exec(t.ctx, `INSERT INTO {channels} (assistant_id, enabled, allow_callback_urls, signing_secrets, secrets_set_at)
			VALUES ($1, false, false, $2, $3) ON CONFLICT (assistant_id) DO UPDATE
			SET signing_secrets = excluded.signing_secrets, secrets_set_at = excluded.secrets_set_at`,
			assistantID, strings.Join(texts, " "), t.at(now))
		if err != nil {
			return err
		}
		return t.audit(0)
	})
}

// secretList reads the secrets of a channel. NULL is none.
type secretList struct{ list *[]webtrigger.SigningSecret }

func (l secretList) Scan(value any) error {
	text, _ := value.(string)
	for word := range strings.FieldsSeq(text) {
		secret, err := webtrigger.ParseSigningSecret(word)
		if err != nil {
			return err
		}
		*l.list = append(*l.list, secret)
	}
	return nil
}

// Assistants implements [webtrigger.ChannelStore].
func (s *Store) Assistants(ctx context.Context, after string, limit int) ([]string, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	rows, err := s.rows(ctx, `SELECT assistant_id FROM {channels} WHERE assistant_id > $1
		UNION SELECT assistant_id FROM {api_keys} WHERE assistant_id > $1 ORDER BY assistant_id LIMIT $2`, after, limit)
	ids, err := collect(rows, err, func(row scanner) (id string, _ error) { return id, row.Scan(&id) })
	return ids, s.wrap("list assistants", err)
}

const keyColumns = `id, assistant_id, name, prefix, created_at, expires_at, revoked_at, last_used_at, scopes`

func keyDest(k *webtrigger.Key) []any {
	return []any{&k.ID, &k.AssistantID, &k.Name, &k.Prefix, stamp{&k.CreatedAt}, stamp{&k.ExpiresAt}, stamp{&k.RevokedAt},
		stamp{&k.LastUsedAt}, scopeList{&k.Scopes}}
}

// scopeList reads the scopes of a key.
type scopeList struct{ list *[]webtrigger.Scope }

func (l scopeList) Scan(value any) error {
	text, _ := value.(string)
	for word := range strings.FieldsSeq(text) {
		*l.list = append(*l.list, webtrigger.Scope(word))
	}
	return nil
}

func joinScopes(scopes []webtrigger.Scope) string {
	words := make([]string, len(scopes))
	for i, scope := range scopes {
		words[i] = string(scope)
	}
	return strings.Join(words, " ")
}

func scanKey(row scanner) (k webtrigger.Key, _ error) { return k, row.Scan(keyDest(&k)...) }

// CreateKey implements [webtrigger.KeyStore].
func (s *Store) CreateKey(ctx context.Context, key webtrigger.NewKey) (created webtrigger.Key, _ error) {
	err := s.write(ctx, "create key", func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		created, err = t.addKey(key, now)
		return err
	})
	return created, err
}

func (t *tx) addKey(key webtrigger.NewKey, now time.Time) (webtrigger.Key, error) {
	created, err := scanKey(t.row(t.ctx, `INSERT INTO {api_keys} (assistant_id, name, prefix, hash, created_at, expires_at, scopes)
		VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING `+keyColumns,
		key.AssistantID, key.Name, key.Prefix, key.Hash[:], t.at(now), t.at(key.ExpiresAt), joinScopes(key.Scopes)))
	if uniqueViolation(err) {
		return created, webtrigger.ErrConflict
	} else if err != nil {
		return created, err
	}
	return created, t.audit(created.ID)
}

// ReplaceKey implements [webtrigger.KeyStore].
func (s *Store) ReplaceKey(ctx context.Context, keyID int64, key webtrigger.NewKey, grace time.Duration) (created webtrigger.Key, _ error) {
	err := s.write(ctx, "replace key", func(t *tx) error {
		old, err := scanKey(t.row(t.ctx, `SELECT `+keyColumns+` FROM {api_keys} WHERE id = $1 {for update}`, keyID))
		if err != nil {
			return err
		}
		now, err := t.now()
		if err != nil {
			return err
		}
		if !old.RevokedAt.IsZero() || !old.ExpiresAt.IsZero() && !now.Before(old.ExpiresAt) {
			return webtrigger.ErrConflict
		}
		if end := now.Add(grace); old.ExpiresAt.IsZero() || end.Before(old.ExpiresAt) {
			if _, err := t.exec(t.ctx, `UPDATE {api_keys} SET expires_at = $2 WHERE id = $1`, keyID, t.at(end)); err != nil {
				return err
			}
		}
		created, err = t.addKey(key, now)
		return err
	})
	return created, err
}

// TouchKey implements [webtrigger.KeyStore].
func (s *Store) TouchKey(ctx context.Context, keyID int64, precision time.Duration) error {
	return s.write(ctx, "touch key", func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		_, err = t.exec(t.ctx, `UPDATE {api_keys} SET last_used_at = $2
			WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)`, keyID, t.at(now), t.at(now.Add(-precision)))
		return err
	})
}

// Key implements [webtrigger.KeyStore].
func (s *Store) Key(ctx context.Context, keyID int64) (webtrigger.Key, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Key{}, err
	}
	defer cancel()
	key, err := scanKey(s.row(ctx, `SELECT `+keyColumns+` FROM {api_keys} WHERE id = $1`, keyID))
	return key, s.wrap("read key", err)
}

// Keys implements [webtrigger.KeyStore].
func (s *Store) Keys(ctx context.Context, query webtrigger.KeyQuery) ([]webtrigger.Key, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	var c conditions
	if query.AssistantID != "" {
		c.add("assistant_id = $", query.AssistantID)
	}
	if query.Prefix != "" {
		c.add("substr(prefix, 1, length($)) = $", query.Prefix)
	}
	if query.Active != nil {
		const active = "(revoked_at IS NULL AND (expires_at IS NULL OR expires_at > coalesce({clock}, $)))"
		c.add(map[bool]string{true: active, false: "NOT " + active}[*query.Active], s.at(s.now()))
	}
	text, args := c.page("id", query.Page)
	rows, err := s.unprepared().rows(ctx, `SELECT `+keyColumns+` FROM {api_keys} `+text, args...)
	keys, err := collect(rows, err, scanKey)
	return keys, s.wrap("list keys", err)
}

// RevokeKey implements [webtrigger.KeyStore].
func (s *Store) RevokeKey(ctx context.Context, keyID int64) (key webtrigger.Key, _ error) {
	err := s.write(ctx, "revoke key", func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		key, err = scanKey(t.row(t.ctx, `UPDATE {api_keys} SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1 RETURNING `+keyColumns,
			keyID, t.at(now)))
		if err != nil || !key.RevokedAt.Equal(now) {
			return err
		}
		return t.audit(0)
	})
	return key, err
}

const taskColumns = `id, assistant_id, name, instructions, output_type, allowed_tools, output_schema, active, created_at, updated_at, approve_tools`

func scanTask(row scanner) (webtrigger.TaskDefinition, error) {
	var t webtrigger.TaskDefinition
	var tools, approve string
	err := row.Scan(&t.ID, &t.AssistantID, &t.Name, &t.Instructions, &t.OutputType, &tools, raw{&t.OutputSchema}, &t.Active,
		stamp{&t.CreatedAt}, stamp{&t.UpdatedAt}, &approve)
	if err != nil {
		return webtrigger.TaskDefinition{}, err
	}
	if err := errors.Join(json.Unmarshal([]byte(tools), &t.AllowedTools), json.Unmarshal([]byte(approve), &t.ApproveTools)); err != nil {
		return webtrigger.TaskDefinition{}, fmt.Errorf("bunstore: tools of task %d: %w", t.ID, err)
	}
	return t, nil
}

// taskArgs are the values of a definition that can be changed.
func taskArgs(task webtrigger.TaskDefinition) []any {
	tools, _ := json.Marshal(task.AllowedTools) // strings: cannot fail
	approve, _ := json.Marshal(task.ApproveTools)
	return []any{task.Name, task.Instructions, string(task.OutputType), string(tools), text(task.OutputSchema), task.Active, string(approve)}
}

// CreateTaskDefinition implements [webtrigger.TaskDefinitionStore].
func (s *Store) CreateTaskDefinition(ctx context.Context, task webtrigger.TaskDefinition) (created webtrigger.TaskDefinition, _ error) {
	err := s.write(ctx, "create task", func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		created, err = scanTask(t.row(t.ctx, `INSERT INTO {task_definitions}
			(name, instructions, output_type, allowed_tools, output_schema, active, approve_tools, assistant_id, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) RETURNING `+taskColumns,
			append(taskArgs(task), task.AssistantID, t.at(now))...))
		if err != nil {
			return err
		}
		return t.audit(created.ID)
	})
	return created, err
}

// TaskDefinition implements [webtrigger.TaskDefinitionStore].
func (s *Store) TaskDefinition(ctx context.Context, taskID int64) (webtrigger.TaskDefinition, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.TaskDefinition{}, err
	}
	defer cancel()
	task, err := s.pool().task(ctx, taskID)
	return task, s.wrap("read task", err)
}

func (q session) task(ctx context.Context, taskID int64) (webtrigger.TaskDefinition, error) {
	return scanTask(q.row(ctx, `SELECT `+taskColumns+` FROM {task_definitions} WHERE id = $1`, taskID))
}

// TaskDefinitions implements [webtrigger.TaskDefinitionStore].
func (s *Store) TaskDefinitions(ctx context.Context, query webtrigger.TaskDefinitionQuery) ([]webtrigger.TaskDefinition, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	var c conditions
	if query.AssistantID != "" {
		c.add("assistant_id = $", query.AssistantID)
	}
	if query.Active != nil {
		c.add("active = $", *query.Active)
	}
	text, args := c.page("id", query.Page)
	rows, err := s.unprepared().rows(ctx, `SELECT `+taskColumns+` FROM {task_definitions} `+text, args...)
	tasks, err := collect(rows, err, scanTask)
	return tasks, s.wrap("list tasks", err)
}

// UpdateTaskDefinition implements [webtrigger.TaskDefinitionStore].
func (s *Store) UpdateTaskDefinition(ctx context.Context, task webtrigger.TaskDefinition) (updated webtrigger.TaskDefinition, _ error) {
	err := s.write(ctx, "update task", func(t *tx) error {
		var stored time.Time
		err := t.row(t.ctx, `SELECT updated_at FROM {task_definitions} WHERE id = $1 {for update}`, task.ID).Scan(stamp{&stored})
		if err != nil {
			return err
		}
		if !task.UpdatedAt.IsZero() && !task.UpdatedAt.Equal(stored) {
			return webtrigger.ErrConflict
		}
		now, err := t.now()
		if err != nil {
			return err
		}
		if !now.After(stored) {
			now = stored.Add(time.Microsecond)
		}
		updated, err = scanTask(t.row(t.ctx, `UPDATE {task_definitions} SET name = $1, instructions = $2, output_type = $3,
			allowed_tools = $4, output_schema = $5, active = $6, approve_tools = $7, updated_at = $8 WHERE id = $9 RETURNING `+taskColumns,
			append(taskArgs(task), t.at(now), task.ID)...))
		if err != nil {
			return err
		}
		return t.audit(0)
	})
	return updated, err
}

// DeleteTaskDefinition implements [webtrigger.TaskDefinitionStore].
func (s *Store) DeleteTaskDefinition(ctx context.Context, taskID int64) error {
	return s.write(ctx, "delete task", func(t *tx) error {
		deleted, err := t.exec(t.ctx, `DELETE FROM {task_definitions} WHERE id = $1`, taskID)
		if err == nil && deleted == 0 {
			return webtrigger.ErrNotFound
		} else if err != nil {
			return err
		}
		return t.audit(0)
	})
}
