package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// prepare opens the channels of assistants 1 and 2, and stores their keys and the
// console's password.
func prepare(ctx context.Context, svc *webtrigger.Service, cfg *config, log *slog.Logger) error {
	for _, id := range []string{"1", "2"} {
		settings := webtrigger.Channel{AssistantID: id, Enabled: true, AllowCallbackURLs: cfg.allowCallbacks}
		if err := svc.SetChannel(ctx, settings); err != nil {
			return err
		}
	}
	if cfg.key2 != "" {
		if err := importKey(ctx, svc, "2", "Given by -key2", cfg.key2); err != nil {
			return fmt.Errorf("-key2: %w", err)
		}
	}
	if cfg.Key != "" {
		if err := importKey(ctx, svc, "1", "Given by -key", cfg.Key); err != nil {
			return fmt.Errorf("-key: %w", err)
		}
		return cfg.fill(cfg.db.credentials)
	}
	if err := cfg.fill(cfg.db.credentials); err != nil {
		return err
	}
	err := importKey(ctx, svc, "1", "Evaluation server", cfg.Key)
	if errors.Is(err, errKeyUsed) && cfg.db.credentials != "" {
		return replaceKey(ctx, svc, cfg, log)
	}
	return err
}

// replaceKey replaces a key of the credentials file that was revoked.
func replaceKey(ctx context.Context, svc *webtrigger.Service, cfg *config, log *slog.Logger) error {
	kept, err := readCredentials(cfg.db.credentials)
	if err != nil {
		return err
	}
	kept.Key = newCredentials().Key
	if err := writeCredentials(cfg.db.credentials, kept, os.Rename); err != nil {
		return err
	}
	log.Warn("revoked key replaced", "file", cfg.db.credentials)
	cfg.Key = kept.Key
	return importKey(ctx, svc, "1", "Evaluation server", cfg.Key)
}

var errKeyUsed = errors.New("this key is revoked, expired or another assistant's: choose another one")

// importKey stores a key, unless an earlier start or another server has stored it.
func importKey(ctx context.Context, svc *webtrigger.Service, assistantID, name, plaintext string) error {
	_, err := svc.ImportKey(ctx, assistantID, webtrigger.KeySpec{Name: name}, plaintext)
	if !errors.Is(err, webtrigger.ErrConflict) {
		return err
	}
	page := webtrigger.Page{Limit: webtrigger.MaxPageSize}
	for {
		keys, err := svc.Keys(ctx, webtrigger.KeyQuery{AssistantID: assistantID, Page: page})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(keys, func(key webtrigger.Key) bool { return strings.HasPrefix(plaintext, key.Prefix) && valid(key) }) {
			return nil
		}
		if len(keys) < page.Limit {
			return errKeyUsed
		}
		page.Before = keys[len(keys)-1].ID
	}
}

func valid(key webtrigger.Key) bool {
	return key.RevokedAt.IsZero() && (key.ExpiresAt.IsZero() || time.Now().Before(key.ExpiresAt))
}

// announce prints the URLs, the credentials and the settings that differ from the
// library's safe defaults.
func announce(w io.Writer, cfg *config, model string) {
	fmt.Fprintf(w, `Web Trigger evaluation server

  URL       %[1]s
  console   %[1]s/admin/
            user admin, password %[2]s
  model     %[3]s
  store     %[4]s
`, cfg.baseURL, cfg.Password, model, cfg.db.name)
	if cfg.db.credentials != "" {
		fmt.Fprintf(w, "            key and password are kept in %s, unless flags set them\n", cfg.db.credentials)
	}
	fmt.Fprintln(w, "\nOther than the library's safe defaults:")
	for _, setting := range cfg.unsafe() {
		fmt.Fprintln(w, "  "+setting)
	}
	fmt.Fprintf(w, `
Try it:

curl -sS -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \
  -d '{"message": "What can you do?"}' %s/api/v1/assistants/1/web-trigger

`, cfg.Key, cfg.baseURL)
}

// unsafe lists the settings that differ from the library's safe defaults.
func (cfg *config) unsafe() []string {
	list := []string{"assistants 1 and 2 accept triggers (default: off)"}
	add := func(differs bool, format string, args ...any) {
		if differs {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	add(cfg.allowCallbacks, "callback URLs are accepted (default: rejected)")
	for _, p := range cfg.callbackAllow {
		add(true, "callbacks may reach %s (default: the public internet only)", p)
	}
	add(cfg.callbackCA != nil, "callbacks trust the authorities of -callback-ca too (default: the system's)")
	for _, one := range cfg.mcp {
		add(true, "assistants may use the tools of the MCP server %s", one.target)
	}
	add(!cfg.callbackSecret.IsZero(), "callbacks are signed with -callback-secret (default: not signed)")
	add(cfg.maxAttempts > 1, "a run may start %d times, and repeat what it did before (default: 1)", cfg.maxAttempts)
	add(cfg.workers == 0, "this server executes no runs (-workers 0)")
	add(!loopback(cfg.addr), "other machines can reach this server, without TLS (-addr %s)", cfg.addr)
	return list
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
