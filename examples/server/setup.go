package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	if err == nil || errors.Is(err, webtrigger.ErrConflict) { // an earlier start has stored it
		return nil
	}
	return fmt.Errorf("%s: %w", flag, err)
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

Other than the library's safe defaults:
  assistants 1 and 2 accept triggers (default: off)
  callback URLs are %[3]s (default: refused)
`, cfg.baseURL, cfg.adminPassword, map[bool]string{true: "accepted", false: "refused"}[cfg.allowCallbacks], model)
	for _, p := range cfg.callbackAllow {
		fmt.Fprintf(w, "  callbacks may reach %s (default: the public internet only)\n", p)
	}
	for _, one := range cfg.mcp {
		fmt.Fprintf(w, "  assistants may use the tools of the MCP server %s\n", one.target)
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
