package bunstore

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// eachText sets each text of a value, one at a time, to one of n bytes and visits it.
// Pointers and lists get one element.
func eachText(v reflect.Value, n int, path string, visit func(path string)) {
	switch {
	case v.Kind() == reflect.String:
		v.SetString(string(make([]byte, n)))
		visit(path)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes(make([]byte, n))
		visit(path)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		eachText(v.Elem(), n, path, visit)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		eachText(v.Index(0), n, path+"[]", visit)
	case v.Kind() == reflect.Struct && v.Type().PkgPath() != "time":
		for i := range v.NumField() {
			eachText(v.Field(i), n, path+"."+v.Type().Field(i).Name, visit)
		}
		return
	}
	v.SetZero()
}

// What is sent in a batch counts in its weight, in every field, also in fields that
// come later.
func TestWeights_everyText_counts(t *testing.T) {
	t.Parallel()
	const n = 1 << 20
	var trigger webtrigger.NewTrigger
	var finish webtrigger.Finish
	var batch webtrigger.EventBatch
	var outcome webtrigger.DeliveryOutcome
	texts := 0
	for name, c := range map[string]struct {
		value any
		weigh func() int
	}{
		"trigger": {&trigger, func() int { return weighTrigger(newTrigger{NewTrigger: trigger}) }},
		"finish":  {&finish, func() int { return weighEnding(ending{end: finish}) }},
		"append":  {&batch, func() int { return weighAppending(appending{batch: batch}) }},
		"outcome": {&outcome, func() int { return weighDelivered(delivered{end: outcome}) }},
	} {
		eachText(reflect.ValueOf(c.value).Elem(), n, name, func(path string) {
			if strings.HasPrefix(path, "finish.Claimed") {
				return // is not sent
			}
			texts++
			require.Greater(t, c.weigh(), n, path)
		})
	}
	require.Greater(t, texts, 30)
}

// Large task definitions fill a batch as other texts do.
func TestBatches_largeTasks_areSmall(t *testing.T) {
	t.Parallel()
	b := &batcher[newTrigger, webtrigger.CreatedTrigger]{waiting: newWaitlist[newTrigger, webtrigger.CreatedTrigger]()}
	task := &webtrigger.TaskDefinition{Instructions: string(make([]byte, 200_000))}
	for range 100 {
		trigger := webtrigger.NewTrigger{TaskDefinition: task}
		b.waiting.add("1", &call[newTrigger, webtrigger.CreatedTrigger]{arg: newTrigger{NewTrigger: trigger}, weight: weighTrigger(newTrigger{NewTrigger: trigger})})
	}
	calls, _ := b.next()
	require.Len(t, calls, maxWeight/200_000)
}
