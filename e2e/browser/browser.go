// Package browser starts Chromium for tests:
//
//	var chromium browser.Shared // TestMain closes it
//
//	func TestPage(t *testing.T) {
//		tab := chromium.New(t)
//		err := chromedp.Do(tab, chromedp.Navigate(url), chromedp.WaitVisible("#state"))
//	}
//
// It drives the installed program and downloads none. Where there is none, tests
// are skipped, unless WEBTRIGGER_TEST_ALL is set: then they fail.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/webtrigger-go/webtrigger/internal/needs"
)

// ErrNotInstalled reports that this machine has no Chromium.
var ErrNotInstalled = errors.New("chromium is not installed: run scripts/deps.sh")

// programVariable names a program that is not where this package looks by itself.
const programVariable = "WEBTRIGGER_CHROMIUM"

// programs are the names it goes by. scripts/deps.sh looks for them as well.
var programs = []string{"chromium", "chromium-browser", "google-chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium"}

// patience bounds everything that a tab does, on a machine that is busy.
const patience = 5 * time.Minute

// Shared is a browser that tests have in common, for to start one takes seconds. It
// starts when the first of them needs it.
type Shared struct {
	Options []chromedp.ExecAllocatorOption // set before the first test

	mu    sync.Mutex
	first context.Context // its first tab, which no test uses; nil: not started
}

// New opens a tab with a fresh profile for the length of a test and returns its
// context, for chromedp.Do and chromedp.Run. chromedp.NewContext(tab) opens another
// tab of the same profile. The context ends after five minutes.
//
// An exception that a page does not catch, or what its Content-Security-Policy
// stops, fails the test.
func (s *Shared) New(tb testing.TB) context.Context {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == nil {
		first, cancel := allocate(tb, s.Options)
		if err := chromedp.Do(first); err != nil {
			cancel()
			tb.Fatal(err)
		}
		s.first = first
	}
	ctx, cancel := context.WithTimeout(s.first, patience)
	tb.Cleanup(cancel)
	tab, cancel := chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
	tb.Cleanup(cancel)
	watch(tb, tab)
	return tab
}

// Close ends the browser, if it has started, once its tests have ended.
func (s *Shared) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first != nil {
		_ = chromedp.Cancel(s.first)
	}
}

// allocate returns the context of a browser's first tab. Its first use starts the
// program.
func allocate(tb testing.TB, opts []chromedp.ExecAllocatorOption) (context.Context, context.CancelFunc) {
	tb.Helper()
	program, err := find()
	switch {
	case err == nil:
	case errors.Is(err, ErrNotInstalled):
		needs.Missing(tb, err)
	default:
		tb.Fatal(err)
	}
	all := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.NoSandbox, // as root there is none, and the pages are ours
		chromedp.DisableGPU,
		chromedp.WSURLReadTimeout(time.Minute),
	)
	ctx, end := chromedp.NewExecAllocator(context.Background(), append(all, opts...)...)
	tab, cancel := chromedp.NewContext(ctx)
	return tab, func() {
		cancel()
		end()
	}
}

// watch fails a test for what goes wrong in the tab's pages, and closes the tab at
// its end.
func watch(tb testing.TB, tab context.Context) {
	tb.Helper()
	complaints, err := listen(tab)
	if err != nil {
		tb.Fatal(fmt.Errorf("start the browser: %w", err))
	}
	tb.Cleanup(func() {
		for _, complaint := range complaints() {
			tb.Errorf("the page: %s", complaint)
		}
		_ = chromedp.Cancel(tab) // and wait until it has ended
	})
}

// listen starts the browser and collects what goes wrong in the tab's pages.
func listen(tab context.Context) (complaints func() []string, err error) {
	var mu sync.Mutex
	var all []string
	err = chromedp.Listen(tab, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			d := e.ExceptionDetails
			text := d.Text
			if d.Exception != nil {
				text += " " + d.Exception.Description
			}
			all = append(all, fmt.Sprintf("%s (%s:%d)", text, d.URL, d.LineNumber+1))
		case *cdplog.EventEntryAdded:
			if e.Entry.Source == cdplog.EntrySourceSecurity && e.Entry.Level == cdplog.EntryLevelError {
				all = append(all, fmt.Sprintf("%s (%s:%d)", e.Entry.Text, e.Entry.URL, e.Entry.LineNumber+1))
			}
		}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}, err
}

// find returns the path of the program.
func find() (string, error) {
	if path := os.Getenv(programVariable); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("%s: %w", programVariable, err)
		}
		return path, nil
	}
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNotInstalled
}
