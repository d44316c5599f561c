package runsearch_test

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func service(t *testing.T, store webtrigger.Store, texts bool) *webtrigger.Service {
	t.Helper()
	svc, err := webtrigger.New(store, nil, &webtrigger.Options{BaseURL: "https://app.example.com", NoWorkers: true, SearchTexts: texts})
	require.NoError(t, err)
	t.Cleanup(svc.CloseStreams)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "2", Enabled: true}))
	return svc
}

func trigger(t *testing.T, svc *webtrigger.Service, assistant, message, metadata string) webtrigger.Run {
	t.Helper()
	run, err := svc.Trigger(t.Context(), assistant, webtrigger.TriggerRequest{Message: message, Subject: "Subject", Metadata: json.RawMessage(metadata)})
	require.NoError(t, err)
	return run
}

func find(t *testing.T, svc *webtrigger.Service, search webtrigger.RunSearch) (ids []int64) {
	t.Helper()
	found, err := svc.SearchRuns(t.Context(), search)
	require.NoError(t, err)
	require.Zero(t, found.Next)
	counts, complete, err := svc.CountFoundRuns(t.Context(), search)
	require.NoError(t, err)
	require.True(t, complete)
	require.Equal(t, len(found.Runs), counts[webtrigger.RunQueued]+counts[webtrigger.RunCancelled])
	for _, run := range found.Runs {
		ids = append(ids, run.ID)
	}
	return ids
}

func values(pairs ...string) (list []webtrigger.MetadataValue) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, webtrigger.MetadataValue{Path: pairs[i], Value: pairs[i+1]})
	}
	return list
}

func TestSearchRuns_textsOn_findsMessagesAndMetadata(t *testing.T) {
	t.Parallel()
	svc := service(t, memstore.New(nil), true)
	one := trigger(t, svc, "1", "Refund for Frau Müller", `{"customer": {"id": 4711, "name": "M\u00fcller"}, "tags": ["vip", "eu"], "n": 1e1000000}`)
	two := trigger(t, svc, "2", "Invoice", `{"customer.id": "4711"}`)
	_, err := svc.CancelRun(t.Context(), two.ID, "Superseded by hand")
	require.NoError(t, err)
	for text, want := range map[string][]int64{
		"MÜLLER": {one.ID}, "refund for": {one.ID}, "4711": {two.ID, one.ID}, "superseded": {two.ID}, "subject": {two.ID, one.ID},
		"customer": nil, "vip": {one.ID}, two.Key: {two.ID}, strings.ToUpper(two.Key): {two.ID}, "absent": nil,
	} {
		require.Equal(t, want, find(t, svc, webtrigger.RunSearch{Text: text}), text)
	}
	require.Equal(t, []int64{one.ID}, find(t, svc, webtrigger.RunSearch{Text: "4711", RunQuery: webtrigger.RunQuery{AssistantID: "1"}}))
	require.Equal(t, []int64{one.ID, two.ID}, find(t, svc, webtrigger.RunSearch{Text: "4711", RunQuery: webtrigger.RunQuery{OldestFirst: true}}))
	for _, c := range []struct {
		values []webtrigger.MetadataValue
		want   []int64
	}{
		{values("customer.id", "4711"), []int64{two.ID, one.ID}},
		{values("customer.id", "4711", "tags.1", "eu"), []int64{one.ID}},
		{values("customer.id", "4711", "tags.0", "eu"), nil},
		{values("customer.id", "471"), nil},
		{values("n", "1e1000000"), []int64{one.ID}},
		{values("customer.name", "Müller"), []int64{one.ID}},
		{values("customer", ""), nil},
	} {
		require.Equal(t, c.want, find(t, svc, webtrigger.RunSearch{Metadata: c.values}), c.values)
	}
}

func TestSearchRuns_textsOff_findsNeitherMessagesNorMetadata(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	one := trigger(t, service(t, store, true), "1", "Refund", `{"customer": "ACME"}`)
	svc := service(t, store, false)
	require.False(t, svc.SearchesTexts())
	require.Empty(t, find(t, svc, webtrigger.RunSearch{Text: "refund"}))
	require.Empty(t, find(t, svc, webtrigger.RunSearch{Text: "ACME"}))
	require.Equal(t, []int64{one.ID}, find(t, svc, webtrigger.RunSearch{Text: "SUBJ"}))
	_, err := svc.SearchRuns(t.Context(), webtrigger.RunSearch{Metadata: values("customer", "ACME")})
	require.ErrorContains(t, err, "/metadata.customer is not searched by this server")
	require.Equal(t, []int64{one.ID}, find(t, service(t, store, true), webtrigger.RunSearch{Text: "ACME"}), "also runs from before it was turned on")
}

func TestSearchRuns_invalidText_returnsFault(t *testing.T) {
	t.Parallel()
	svc := service(t, memstore.New(nil), true)
	eleven := make([]webtrigger.MetadataValue, 11)
	for i := range eleven {
		eleven[i] = webtrigger.MetadataValue{Path: "p" + strconv.Itoa(i), Value: "v"}
	}
	for pointer, search := range map[string]webtrigger.RunSearch{
		"/q":                                   {Text: strings.Repeat("x", 201)},
		"/q ":                                  {Text: "a\tb"},
		"/q  ":                                 {Text: "a\xff"},
		"/metadata.":                           {Metadata: values("", "v")},
		"/metadata.a":                          {Metadata: values("a", "v\x00")},
		"/metadata.b":                          {Metadata: values("b", strings.Repeat("x", 201))},
		"/metadata.c\n":                        {Metadata: values("c\n", "v")},
		"/metadata":                            {Metadata: eleven},
		"/metadata." + strings.Repeat("d", 50): {Metadata: values(strings.Repeat("d", 201), "v")},
	} {
		_, err := svc.SearchRuns(t.Context(), search)
		var invalid *webtrigger.RequestError
		require.ErrorAs(t, err, &invalid, pointer)
		require.Equal(t, strings.TrimRight(pointer, " "), invalid.Faults[0].Pointer)
		_, _, err = svc.CountFoundRuns(t.Context(), search)
		require.ErrorAs(t, err, &invalid, pointer)
	}
}

// corpus is a store with n runs, of which one has a text.
type corpus struct {
	webtrigger.Store
	n, match int64
	size     int // of each message
	pause    time.Duration
	limits   []int
}

func (c *corpus) RunTexts(_ context.Context, query webtrigger.RunQuery, _ bool) (list []webtrigger.RunTexts, _ error) {
	time.Sleep(c.pause)
	c.limits = append(c.limits, query.Page.Limit)
	last := query.Page.Before
	if last == 0 {
		last = c.n + 1
	}
	for id := last - 1; id > 0 && len(list) < query.Page.Limit; id-- {
		t := webtrigger.RunTexts{RunID: id, Message: strings.Repeat("x", c.size), CreatedAt: time.Unix(id, 0)}
		if id == c.match {
			t.Message = "needle"
		}
		list = append(list, t)
	}
	return list, nil
}

func (c *corpus) Runs(_ context.Context, query webtrigger.RunQuery) (runs []webtrigger.Run, _ error) {
	for _, id := range query.IDs {
		runs = append(runs, webtrigger.Run{ID: id})
	}
	return runs, nil
}

func TestSearchRuns_manyRuns_continuesAtNext(t *testing.T) {
	t.Parallel()
	store := &corpus{Store: memstore.New(nil), n: 25_000, match: 7}
	svc := service(t, store, true)
	search := webtrigger.RunSearch{Text: "needle"}
	var searched []int
	for {
		found, err := svc.SearchRuns(t.Context(), search)
		require.NoError(t, err)
		searched = append(searched, found.Searched)
		if search.Page.Before = found.Next; found.Next == 0 {
			require.Equal(t, []webtrigger.Run{{ID: 7}}, found.Runs)
			require.Equal(t, time.Unix(1, 0), found.Since)
			break
		}
		require.Empty(t, found.Runs)
		require.Equal(t, time.Unix(found.Next, 0), found.Since)
	}
	require.Equal(t, []int{webtrigger.SearchedRuns, webtrigger.SearchedRuns, 5000}, searched)
	for _, limit := range store.limits {
		require.LessOrEqual(t, limit, 250)
	}
	_, complete, err := svc.CountFoundRuns(t.Context(), search)
	require.NoError(t, err)
	require.False(t, complete)
	found, err := svc.SearchRuns(t.Context(), webtrigger.RunSearch{Text: "7"})
	require.NoError(t, err)
	require.Equal(t, &webtrigger.Run{ID: 7}, found.Exact, "the run with this id is found however old it is")
}

// A page of a full list continues after its last run.
func TestSearchRuns_fullPage_continuesAfterLastRun(t *testing.T) {
	t.Parallel()
	svc := service(t, &corpus{Store: memstore.New(nil), n: 300, size: 1}, true)
	found, err := svc.SearchRuns(t.Context(), webtrigger.RunSearch{Text: "x", RunQuery: webtrigger.RunQuery{Page: webtrigger.Page{Limit: 3}}})
	require.NoError(t, err)
	require.Len(t, found.Runs, 3)
	require.EqualValues(t, 298, found.Next)
	require.Equal(t, 3, found.Searched)
}

func TestSearchRuns_largeTexts_readsFewAtATime(t *testing.T) {
	t.Parallel()
	store := &corpus{Store: memstore.New(nil), n: 300, size: 200_000}
	_, err := service(t, store, true).SearchRuns(t.Context(), webtrigger.RunSearch{Text: "needle"})
	require.NoError(t, err)
	require.Equal(t, 100, store.limits[0])
	for _, limit := range store.limits[1:] {
		require.Equal(t, 20, limit)
	}
}

func TestSearchRuns_slowStore_returnsWhatItHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &corpus{Store: memstore.New(nil), n: 10_000, pause: 600 * time.Millisecond}
		svc := service(t, store, true)
		found, err := svc.SearchRuns(t.Context(), webtrigger.RunSearch{Text: "needle"})
		require.NoError(t, err)
		require.Len(t, store.limits, 4)
		require.NotZero(t, found.Next)
	})
}
