package webtrigger

import (
	"context"
	"sync"
	"time"
)

// keyUsePrecision is how far Key.LastUsedAt may be behind the last use.
const keyUsePrecision = time.Minute

// keyUses remembers which keys this process has stamped lately, so that a key
// costs one write a minute, however often it is used.
type keyUses struct {
	mu      sync.Mutex
	stamped map[int64]time.Time // by key
}

// due reports whether the key is to be stamped, and counts it as stamped if so.
func (u *keyUses) due(keyID int64, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, ok := u.stamped[keyID]; ok && now.Sub(at) < keyUsePrecision {
		return false
	}
	if u.stamped == nil {
		u.stamped = make(map[int64]time.Time)
	}
	if len(u.stamped) >= 1024 {
		for id, at := range u.stamped {
			if now.Sub(at) >= keyUsePrecision {
				delete(u.stamped, id)
			}
		}
	}
	u.stamped[keyID] = now
	return true
}

// used stamps the key of a request. One request a minute waits for it; that it
// fails concerns no request.
func (s *Service) used(ctx context.Context, keyID int64) {
	if !s.keyUses.due(keyID, time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.store.TouchKey(ctx, keyID, keyUsePrecision); err != nil {
		s.log.WarnContext(ctx, "stamp key as used", "key_id", keyID, "error", err)
	}
}
