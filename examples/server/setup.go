package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// freshKeyName marks the keys that this server makes, so that the next start
// can revoke the last one's.
const freshKeyName = "Evaluation server"

// prepare opens the channels of assistants 1 and 2 and sees to their keys. It
// returns the key of assistant 1.
func prepare(ctx context.Context, svc *webtrigger.Service, cfg *config) (string, error) {
	for _, id := range []string{"1", "2"} {
		settings := webtrigger.ChannelSettings{AssistantID: id, Enabled: true, AllowCallbackURLs: cfg.allowCallbacks}
		if err := svc.SetChannel(ctx, settings); err != nil {
			return "", err
		}
	}
	if cfg.key2 != "" {
		if err := importKey(ctx, svc, "2", "-key2", cfg.key2); err != nil {
			return "", err
		}
	}
	if cfg.key != "" {
		return cfg.key, importKey(ctx, svc, "1", "-key", cfg.key)
	}
	if err := revokeFresh(ctx, svc); err != nil {
		return "", err
	}
	_, secret, err := svc.CreateKey(ctx, "1", freshKeyName, time.Time{})
	return secret, err
}

func importKey(ctx context.Context, svc *webtrigger.Service, assistantID, flag, secret string) error {
	_, err := svc.ImportKey(ctx, assistantID, "Given by "+flag, secret, time.Time{})
	if errors.Is(err, webtrigger.ErrConflict) {
		return checkStored(ctx, svc, assistantID, flag, secret)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

// checkStored reports whether a key that is stored already, by an earlier start
// or by another server, is good for the assistant.
func checkStored(ctx context.Context, svc *webtrigger.Service, assistantID, flag, secret string) error {
	page := webtrigger.Page{Limit: webtrigger.MaxPageSize}
	for {
		keys, err := svc.Keys(ctx, assistantID, page)
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
		for _, key := range keys {
			if strings.HasPrefix(secret, key.Prefix) && key.RevokedAt.IsZero() {
				return nil
			}
		}
		if len(keys) < page.Limit {
			return fmt.Errorf("%s: this key is revoked or another assistant's: choose another one", flag)
		}
		page.Before = keys[len(keys)-1].ID
	}
}

func revokeFresh(ctx context.Context, svc *webtrigger.Service) error {
	keys, err := svc.Keys(ctx, "1", webtrigger.Page{Limit: webtrigger.MaxPageSize})
	if err != nil {
		return err
	}
	for _, key := range keys {
		if key.Name == freshKeyName && key.RevokedAt.IsZero() {
			if _, err := svc.RevokeKey(ctx, key.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// announce prints what a newcomer needs, ready to paste.
func announce(w io.Writer, cfg *config, model, secret string) {
	fmt.Fprintf(w, `Web Trigger evaluation server

  URL       %[1]s
  console   %[1]s/admin/
            user admin, password %[2]s
  model     %[4]s
  store     %[5]s

Other than the library's safe defaults:
  assistants 1 and 2 accept triggers (default: off)
  callback URLs are %[3]s (default: refused)
`, cfg.baseURL, cfg.adminPassword, map[bool]string{true: "accepted", false: "refused"}[cfg.allowCallbacks], model, cfg.db.name)
	for _, p := range cfg.callbackAllow {
		fmt.Fprintf(w, "  callbacks may reach %s (default: the public internet only)\n", p)
	}
	for _, one := range cfg.mcp {
		fmt.Fprintf(w, "  assistants may use the tools of the MCP server %s\n", one.target)
	}
	if !cfg.callbackSecret.IsZero() {
		fmt.Fprintln(w, "  callbacks are signed with -callback-secret (default: not signed)")
	}
	if cfg.callbackCA != nil {
		fmt.Fprintln(w, "  callbacks trust the authorities of -callback-ca too (default: the system's)")
	}
	if cfg.workers == 0 {
		fmt.Fprintln(w, "  no run is executed here (-workers 0)")
	}
	fmt.Fprintf(w, `
Try it:

curl -sS -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \
  -d '{"message": "What can you do?"}' %s/api/v1/assistants/1/web-trigger

`, secret, cfg.baseURL)
}
