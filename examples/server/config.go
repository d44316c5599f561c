package main

import (
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// config is the settings of the command line.
type config struct {
	addr           string
	db             database
	baseURL        string
	credentials    // of assistant 1 and the console
	key2           string
	allowCallbacks bool
	callbackAllow  []netip.Prefix
	callbackCA     *x509.CertPool
	callbackSecret webtrigger.SigningSecret
	workers        int
	lease          time.Duration
	runTimeout     time.Duration
	maxAttempts    int
	drain          time.Duration
	instructions   string
	mcp            []mcpServer
}

func parseFlags(args []string, output io.Writer) (*config, error) {
	cfg := &config{}
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&cfg.addr, "addr", "127.0.0.1:8080", "listen `address`")
	db := flags.String("db", "sqlite:webtrigger.db", "where to store everything: memory, sqlite:`FILE` or postgres://…")
	flags.StringVar(&cfg.baseURL, "base-url", "", "public base `URL` (default: from -addr)")
	flags.StringVar(&cfg.Key, "key", "", "API `key` of assistant 1, 64 hex characters (default: created at the first start)")
	flags.StringVar(&cfg.key2, "key2", "", "API `key` of assistant 2")
	flags.BoolVar(&cfg.allowCallbacks, "allow-callbacks", true, "allow callback URLs for assistants 1 and 2")
	callbackAllow := flags.String("callback-allow", "", "comma-separated `CIDRs` that callbacks may reach besides the public internet")
	callbackCA := flags.String("callback-ca", "", "PEM `file` of further root CAs for callbacks")
	callbackSecret := flags.String("callback-secret", "", "Standard Webhooks `secret` (whsec_…) that signs callbacks")
	flags.IntVar(&cfg.workers, "workers", 16, "concurrent runs; 0 serves HTTP only")
	flags.DurationVar(&cfg.lease, "lease", 30*time.Second, "heartbeat lease")
	flags.DurationVar(&cfg.runTimeout, "run-timeout", 15*time.Minute, "maximum `duration` of a run")
	flags.IntVar(&cfg.maxAttempts, "max-attempts", 1, "maximum number of attempts of a run whose workers fail")
	flags.DurationVar(&cfg.drain, "drain", 20*time.Second, "drain time at SIGTERM")
	flags.StringVar(&cfg.Password, "admin-password", "", "`password` of the user admin (default: created at the first start)")
	instructions := flags.String("instructions", "", "instructions of the assistants: a `text`, or @FILE")
	var servers []string
	flags.Func("mcp", "an MCP `server` whose tools the assistants may use: [NAME=]URL or [NAME=]COMMAND ARG...; may be repeated", func(value string) error {
		servers = append(servers, value)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	err := cfg.complete(flags.Args(), *callbackAllow, *callbackCA)
	if err == nil {
		err = cfg.completeSecrets(*db, *callbackSecret)
	}
	if err == nil {
		err = cfg.completeAgent(*instructions, servers)
	}
	if err != nil {
		fmt.Fprintln(output, "server:", err)
	}
	return cfg, err
}

func (cfg *config) complete(rest []string, callbackAllow, callbackCA string) (err error) {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case cfg.workers < 0 || cfg.maxAttempts < 1 || cfg.lease <= 0 || cfg.runTimeout <= 0 || cfg.drain < 0:
		return errors.New("-workers and -drain must not be negative; -max-attempts, -lease and -run-timeout must be positive")
	}
	for name, key := range map[string]string{"-key": cfg.Key, "-key2": cfg.key2} {
		if key != "" && !keyShape.MatchString(key) {
			return fmt.Errorf("%s: must have 64 lowercase hex characters", name)
		}
	}
	if cfg.callbackAllow, err = parsePrefixes(callbackAllow); err != nil {
		return err
	}
	if callbackCA != "" {
		if cfg.callbackCA, err = readRoots(callbackCA); err != nil {
			return err
		}
	}
	return nil
}

var keyShape = regexp.MustCompile(`^[0-9a-f]{64}$`)

// completeSecrets reads the flags whose values may be secrets. No error contains
// them.
func (cfg *config) completeSecrets(db, callbackSecret string) (err error) {
	if cfg.db, err = parseDatabase(db); err != nil || callbackSecret == "" {
		return err
	}
	if cfg.callbackSecret, err = webtrigger.ParseSigningSecret(callbackSecret); err != nil {
		return fmt.Errorf("-callback-secret: %w", err)
	}
	return nil
}

func parsePrefixes(list string) (prefixes []netip.Prefix, err error) {
	for word := range strings.SplitSeq(list, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return nil, fmt.Errorf("-callback-allow: %q is not a CIDR such as 10.0.0.0/8", word)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

// readRoots returns the system's roots and those in the file.
func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("-callback-ca: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("-callback-ca: %s contains no PEM certificate", file)
	}
	return roots, nil
}

func (cfg *config) secureCookies() bool { return strings.HasPrefix(cfg.baseURL, "https://") }

func (cfg *config) serviceOptions(log *slog.Logger) *webtrigger.Options {
	drain := cfg.drain
	if drain == 0 {
		drain = -1
	}
	var secrets []webtrigger.SigningSecret
	if !cfg.callbackSecret.IsZero() {
		secrets = append(secrets, cfg.callbackSecret)
	}
	return &webtrigger.Options{
		BaseURL: cfg.baseURL, Logger: log, Workers: cfg.workers, NoWorkers: cfg.workers == 0, Lease: cfg.lease, RunTimeout: cfg.runTimeout,
		MaxAttempts: cfg.maxAttempts, DrainTimeout: drain, CompileSchema: llm.CompileSchema, SearchTexts: true,
		Callback: webtrigger.CallbackOptions{Allow: cfg.callbackAllow, RootCAs: cfg.callbackCA, Secrets: secrets},
	}
}
