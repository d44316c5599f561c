package webtrigger

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger/internal/runsearch"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// A search reads the texts of one run after the other, in the order of the list, and
// compares them here. It has no index, so it costs nothing when a run is created, works on
// every store and finds runs from before it was turned on. docs/console.md has figures.

// RunTexts are the texts of a run in which a search looks.
type RunTexts struct {
	RunID        int64
	RunKey       string
	Status       RunStatus
	CreatedAt    time.Time
	Subject      string
	RequestID    string
	ErrorMessage string
	StatusDetail string
	Message      string          // of the caller
	Result       string          // its first SearchedResultRunes characters
	Metadata     json.RawMessage // as sent; nil for none, or for more than SearchedMetadataBytes
}

// Bounds of what a search reads.
const (
	SearchedRuns          = 10_000   // maximum number of runs in whose texts one call looks
	SearchedResultRunes   = 20_000   // characters of a result
	SearchedMetadataBytes = 64 << 10 // metadata with more bytes is not searched

	searchTime       = 2 * time.Second // after which a call returns what it has found
	searchChunk      = 4 << 20         // bytes of texts that one call of the store reads, about
	maxSearchText    = 200             // bytes
	maxMetadataTests = 10
)

// RunSearch selects runs by their texts, among those that RunQuery selects.
type RunSearch struct {
	RunQuery

	// Text selects the run with this id or run_key, and runs with a text that contains it,
	// in either case of letters: subject, request id, error_message and status_detail. With
	// [Options.SearchTexts] also the caller's message, the beginning of the result, and the
	// values of metadata. Maximum: 200 bytes.
	Text string

	// Metadata selects runs whose metadata has each of these values. It requires
	// [Options.SearchTexts]. Maximum: 10.
	Metadata []MetadataValue
}

// MetadataValue is a value in metadata. Path has the keys, and indexes of arrays from 0, that
// lead to it, joined by dots: "customer.id". Value is a string, or a number, true, false or
// null as it is written.
type MetadataValue struct{ Path, Value string }

// FoundRuns is a page of a search. One call looks in at most SearchedRuns runs and takes
// about 2 s, so a page may have few runs, or none, and another page may follow.
type FoundRuns struct {
	Runs     []Run     // summaries in the order of the query
	Exact    *Run      // on the first page: the run whose id or run_key is the text, however old
	Next     int64     // Page.Before of the next page; 0 if all runs of the query are searched
	Searched int       // number of runs in whose texts this call has looked
	Since    time.Time // creation time of the last of these runs; zero if Searched is 0
}

// SearchesTexts reports [Options.SearchTexts].
func (s *Service) SearchesTexts() bool { return s.opts.SearchTexts }

// SearchRuns returns the next page of the runs that match search. It searches all stored
// runs, also those that are older than the Service. It returns a [RequestError] if Text or
// Metadata is invalid.
func (s *Service) SearchRuns(ctx context.Context, search RunSearch) (FoundRuns, error) {
	search.Page = search.Page.withDefaults()
	var ids []int64
	found, err := s.searchTexts(ctx, &search, func(t *RunTexts) (more bool) {
		ids = append(ids, t.RunID)
		return len(ids) < search.Page.Limit
	})
	if err != nil {
		return FoundRuns{}, err
	}
	if len(ids) > 0 {
		query := RunQuery{IDs: ids, OldestFirst: search.OldestFirst, Page: Page{Limit: len(ids)}}
		if found.Runs, err = s.store.Runs(ctx, query); err != nil {
			return FoundRuns{}, err
		}
	}
	if search.Page.Before == 0 && search.valid() {
		found.Exact, err = s.exactRun(ctx, search)
	}
	return found, err
}

// CountFoundRuns counts the runs that match search by status, in as many runs as one call
// searches. complete reports whether these are all. search.Page does not apply.
func (s *Service) CountFoundRuns(ctx context.Context, search RunSearch) (counts map[RunStatus]int, complete bool, _ error) {
	search.Page = Page{}
	counts = make(map[RunStatus]int)
	found, err := s.searchTexts(ctx, &search, func(t *RunTexts) (more bool) {
		counts[t.Status]++
		return true
	})
	return counts, found.Next == 0, err
}

// searchTexts calls visit with the runs that match, until it returns false.
func (s *Service) searchTexts(ctx context.Context, search *RunSearch, visit func(*RunTexts) (more bool)) (found FoundRuns, _ error) {
	if err := search.check(s.opts.SearchTexts); err != nil || !search.valid() {
		return found, err
	}
	query, until := search.RunQuery, time.Now().Add(searchTime)
	text := runsearch.Fold(search.Text)
	most := 1000 // runs at a time
	if s.opts.SearchTexts {
		most = 250
	}
	query.Page.Limit = 100
	for found.Searched < SearchedRuns {
		texts, err := s.store.RunTexts(ctx, query, s.opts.SearchTexts)
		if err != nil {
			return FoundRuns{}, err
		}
		size := 1
		for i := range texts {
			t := &texts[i]
			size += len(t.Subject) + len(t.ErrorMessage) + len(t.Message) + len(t.Result) + len(t.Metadata)
			found.Searched++
			found.Next, found.Since = t.RunID, t.CreatedAt
			if t.hasText(text) && t.hasMetadata(search.Metadata) && !visit(t) {
				return found, nil
			}
		}
		if len(texts) < query.Page.Limit {
			found.Next = 0
			return found, nil
		}
		if time.Now().After(until) {
			break
		}
		query.Page = Page{Before: found.Next, Limit: min(max(searchChunk/(size/len(texts)+1), 20), most, SearchedRuns-found.Searched)}
	}
	return found, nil
}

// exactRun returns the run whose id or run_key is the text, if it matches the rest.
func (s *Service) exactRun(ctx context.Context, search RunSearch) (*Run, error) {
	id, notID := strconv.ParseInt(search.Text, 10, 64)
	if key, err := uuid.Parse(search.Text); err == nil {
		run, err := s.store.RunByKey(ctx, key.String())
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		id = run.ID
	} else if notID != nil {
		return nil, nil
	}
	query := search.RunQuery
	query.IDs, query.Page = []int64{id}, Page{Limit: 1}
	if len(search.Metadata) > 0 {
		texts, err := s.store.RunTexts(ctx, query, true)
		if err != nil || len(texts) == 0 || !texts[0].hasMetadata(search.Metadata) {
			return nil, err
		}
	}
	runs, err := s.store.Runs(ctx, query)
	if err != nil || len(runs) == 0 {
		return nil, err
	}
	return &runs[0], nil
}

// check validates the texts of a search. all reports whether metadata may be searched.
func (search *RunSearch) check(all bool) error {
	var f faults
	if len(search.Text) > maxSearchText || !printable(search.Text) {
		f.add("/q", "must have at most 200 bytes of UTF-8 and no control characters")
	}
	if len(search.Metadata) > maxMetadataTests {
		f.add("/metadata", "must have at most 10 paths")
	}
	for _, m := range search.Metadata {
		at := "/metadata." + wire.Truncate(wire.ValidText(m.Path), 50)
		switch {
		case !all:
			f.add(at, "is not searched by this server: Options.SearchTexts is not set")
		case m.Path == "" || len(m.Path) > runsearch.MaxPath || !printable(m.Path):
			f.add(at, "must have a path of 1 to 200 bytes of UTF-8 without control characters")
		case len(m.Value) > maxSearchText || !printable(m.Value):
			f.add(at, "must have at most 200 bytes of UTF-8 and no control characters")
		}
	}
	return f.err()
}

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// hasText reports whether one of the texts contains a folded text.
func (t *RunTexts) hasText(folded string) bool {
	for _, text := range []string{t.Subject, t.RequestID, t.ErrorMessage, t.StatusDetail, t.Message, t.Result} {
		if runsearch.Contains(text, folded) {
			return true
		}
	}
	if folded == t.RunKey || folded == strconv.FormatInt(t.RunID, 10) {
		return true
	}
	if !runsearch.MayContain(t.Metadata, folded) {
		return false
	}
	for _, value := range runsearch.Scalars(t.Metadata) {
		if runsearch.Contains(value, folded) {
			return true
		}
	}
	return false
}

// hasMetadata reports whether the metadata has all values.
func (t *RunTexts) hasMetadata(values []MetadataValue) bool {
	for _, want := range values {
		has := false
		if !runsearch.MayContain(t.Metadata, runsearch.Fold(want.Value)) {
			return false
		}
		for path, value := range runsearch.Scalars(t.Metadata) {
			if has = path == want.Path && value == want.Value; has {
				break
			}
		}
		if !has {
			return false
		}
	}
	return true
}
