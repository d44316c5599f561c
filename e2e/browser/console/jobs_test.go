package console_test

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

const workers = 6 // of the server on which the jobs are done

// TestJobs_seededRuns_takeFewClicks does the jobs of an operator over many runs. Each job
// begins at the Overview, reaches pages by links alone, and has a bound for its clicks. The
// log has them.
func TestJobs_seededRuns_takeFewClicks(t *testing.T) {
	t.Parallel()
	r := receive(t)
	v := visit(t, serve(t, append(append(r.flags(), seeded(t)...), "-workers", strconv.Itoa(workers))...))
	v.signIn()
	v.do(chromedp.EmulateViewport(1440, 900))
	line := v.onboard(r)
	v.whyFailed()
	v.cancelStuck()
	v.runsOfCustomer()
	v.redeliverFailed(r)
	v.watch(line, workers)
	v.rotateLeaked(line)
	v.runTask()
	v.readConversation()
	v.loadOverTime()
	v.emptyAndMissing()
	v.signingSecrets(r)
	v.byKeyboard(r)
	v.findCustomer()
	v.dataAndRetention()
	t.Log("\njob | clicks | fields\n" + strings.Join(v.jobs, "\n"))
}

// job does one job from the Overview, with at most this many clicks.
func (v *visitor) job(name string, most int, work func()) {
	v.t.Helper()
	v.open("/admin/overview")
	v.clicks, v.fields, v.working = 0, 0, true
	work()
	v.working = false
	v.clean()
	v.jobs = append(v.jobs, fmt.Sprintf("%s | %d | %d", name, v.clicks, v.fields))
	require.LessOrEqual(v.t, v.clicks, most, name)
}

// onboard turns on an assistant, creates a key and tests callbacks. It returns the curl line
// that the page shows.
func (v *visitor) onboard(r *receiver) (line string) {
	api(v.t, v.site, "PUT /assistants/2/channel", map[string]any{"enabled": false, "allow_callback_urls": false})
	r.reject(0)
	v.job("onboard an assistant with a key and callbacks", 7, func() {
		v.follow(`.side nav a[href$="./"]`, `location.pathname === "/admin/"`)
		for _, name := range []string{"Accepts triggers", "Allow Callback URLs"} {
			v.click(fmt.Sprintf(`#list input[aria-label="%s, Second assistant"]`, name))
			v.toast(name + ": on.")
		}
		v.follow(`#list a[aria-label="API keys of Second assistant"]`, `location.pathname === "/admin/assistants/2/keys"`)
		v.fill("#create input[name=name]", "CI "+evil)
		v.click("#create button")
		v.toast("is created")
		line = v.text("#curl code")
		v.follow(`.tabs a[href$="/test"]`, `location.pathname === "/admin/assistants/2/test"`)
		v.fill("#callback input", r.url+"/test")
		v.click("#callback button")
		v.shows("#outcome", "delivered")
		v.shows("#outcome pre", evil)
	})
	require.Equal(v.t, 1, r.received())
	require.Contains(v.t, shell(v.t, line), "accepted")
	channel := api(v.t, v.site, "GET /assistants/2/channel", nil)
	require.Equal(v.t, []any{true, true}, []any{channel["enabled"], channel["allow_callback_urls"]})

	v.open("/admin/assistants/2/test")
	v.fill("#callback input", "http://127.0.0.1/")
	v.click("#callback button")
	v.until(`document.querySelector("#callback .fault")`)
	return line
}

// items are those of a list of the API.
func (v *visitor) items(path string) (items []map[string]any) {
	v.t.Helper()
	for _, item := range api(v.t, v.site, "GET "+path, nil)["items"].([]any) {
		items = append(items, item.(map[string]any))
	}
	return items
}

// whyFailed finds the error of a run that a key had yesterday.
func (v *visitor) whyFailed() {
	from, to := time.Now().Add(-48*time.Hour).Truncate(time.Second), time.Now().Add(-24*time.Hour).Truncate(time.Second)
	yesterday := url.Values{"status": {"failed"}, "from": {from.Format(time.RFC3339)}, "to": {to.Format(time.RFC3339)}}
	run := v.items("/runs?" + yesterday.Encode())[0]
	yesterday.Set("key_id", fmt.Sprint(run["key_id"]))
	yesterday.Set("assistant_id", run["assistant_id"].(string))
	stored := v.items("/runs?" + yesterday.Encode())
	v.job("find why yesterday's run of a key failed", 5, func() {
		v.menu("keys")
		v.follow(fmt.Sprintf(`#list a[aria-label="Runs of %v"]`, run["key_name"]), `location.search.includes("key_id=")`)
		v.fill("#filter input[name=from]", from.Local().Format("2006-01-02T15:04:05"))
		v.fill("#filter input[name=to]", to.Local().Format("2006-01-02T15:04:05"))
		v.follow("#filter button", `location.search.includes("from=")`)
		v.follow(`#statuses a[href*="status=failed"]`, `location.search.includes("status=failed")`)
		require.Equal(v.t, len(stored), eval[int](v, `document.querySelectorAll("#list tbody tr").length`))
		v.shows("#list", stored[0]["error_message"].(string))
		v.follow(fmt.Sprintf(`#list a[href$="runs/%v"]`, stored[0]["id"]), fmt.Sprintf(`location.pathname === "/admin/runs/%v"`, stored[0]["id"]))
		v.shows("#result .bad", stored[0]["error_message"].(string))
		v.shows("#facts", run["key_name"].(string))
	})
}

// cancelStuck sees what runs and what waits for it, and cancels five runs by selection.
// The last one it cancels by filter.
func (v *visitor) cancelStuck() {
	var runs []any
	for range workers {
		runs = append(runs, api(v.t, v.site, "POST /assistants/2/test-trigger", map[string]any{"message": "/hang", "subject": "Stuck"})["run_id"])
	}
	waits := v.trigger("/say done")
	v.job("see what runs and what is stuck, cancel five", 8, func() {
		v.until(`/Running\s+6\s+Queued\s+1\s+Oldest waits for\s+[<\d]/.test(document.querySelector("#now").innerText)`)
		v.follow(`#now a[href*="status=running"]`, `location.search === "?status=running&order=oldest"`)
		v.shows("#list", "Stuck")
		v.shows("#live", "Live")
		first := fmt.Sprintf(`document.querySelector('#list tbody tr:first-child[data-id="%v"]')`, runs[0])
		v.until(`/In progress, \d+ s/.test(` + first + `?.innerText)`)
		v.until(fmt.Sprintf(`(window.row ??= %[1]s) === %[1]s && (window.age ??= row.querySelector(".clock").textContent) !== row.querySelector(".clock").textContent`, first))
		for _, run := range runs[:5] {
			v.click(fmt.Sprintf(`#list tr[data-id="%v"] input[type=checkbox]`, run))
		}
		v.shows("#selected", "5 selected")
		v.click("#cancel-many")
		v.shows("#dialog-title", "Cancel 5 runs?")
		v.confirm()
		v.toast("5 runs cancelled.")
		v.focused(`e.id === "cancel-many"`)
	})
	for _, run := range runs[:5] {
		v.ends(run, "cancelled")
	}
	v.ends(waits, "completed")
	v.shows("#selected", "All that match the filter")
	v.shows("#statuses", "running 1")
	v.click("#cancel-many")
	v.shows("#dialog-title", "Cancel 1 run?")
	v.confirm()
	v.toast("1 run cancelled.")
	v.shows("#list", "No runs match this filter")
	v.ends(runs[5], "cancelled")
}

// ends waits until a run has a status.
func (v *visitor) ends(run any, status string) {
	v.t.Helper()
	require.Eventually(v.t, func() bool {
		return api(v.t, v.site, fmt.Sprintf("GET /runs/%v", run), nil)["status"] == status
	}, patience, 20*time.Millisecond, "run %v: %s", run, status)
}

// runsOfCustomer finds all runs of a customer, by the metadata of the caller.
func (v *visitor) runsOfCustomer() {
	var stored []map[string]any
	customer := ""
	for n := 0; len(stored) < 3; n++ {
		customer = fmt.Sprintf("C-%d", n)
		stored = v.items("/runs?metadata.customer=" + customer)
	}
	v.job("find all runs of a customer", 2, func() {
		v.menu("runs")
		v.fill("#filter [name=metadata]", "customer="+customer)
		v.follow("#filter button", fmt.Sprintf(`location.search === "?metadata.customer=%s"`, customer))
		v.shows("#searched", "These are all that match the filter")
	})
	var runs []string
	for _, run := range stored {
		runs = append(runs, fmt.Sprintf("Run %v", run["id"]))
	}
	require.Equal(v.t, runs, eval[[]string](v, `[...document.querySelectorAll("#list tbody td:nth-child(2) a")].map((a) => a.textContent)`))
}

// redeliverFailed finds the callbacks that failed in the last hour, and sends them again.
func (v *visitor) redeliverFailed(r *receiver) {
	r.reject(3)
	before := r.received()
	for range 3 {
		api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"message": "/say done", "callback_url": r.url + "/hook"})
	}
	host := strings.TrimPrefix(r.url, "https://")
	of := func(state string) int { return len(v.items("/deliveries?limit=200&state=" + state)) }
	require.Eventually(v.t, func() bool { return len(v.items("/deliveries?state=failed&host="+host)) == 3 }, patience, 20*time.Millisecond)
	failed := of("failed")
	v.job("find and redeliver the last hour's failed callbacks", 4, func() {
		v.menu("callbacks")
		v.follow(`#ranges a[href*="range=1h"]`, `location.search === "?range=1h"`)
		v.shows("#list", "HTTP 500")
		v.click(fmt.Sprintf(`#receivers button[aria-label="Redeliver 3 to %s"]`, host))
		v.shows("#dialog-title", "Redeliver 3 callbacks?")
		v.confirm()
		v.toast("3 callbacks will be sent again.")
		v.shows(fmt.Sprintf(`#receivers tr[data-id=%s]`, quote(host)), "all delivered")
	})
	require.Equal(v.t, before+6, r.received())
	require.Len(v.t, v.items("/deliveries?state=delivered&host="+host), 3)
	require.Equal(v.t, failed, of("failed"), "older failed callbacks are not sent again")

	v.fill("#filter input[name=host]", host)
	v.fill("#filter select[name=state]", "undelivered")
	v.click("#filter button")
	v.until(`location.search.includes("state=undelivered")`)
	v.settled()
	eval[bool](v, `(document.querySelector("#redeliver").click(), true)`) // it may move: the list is loaded again
	v.toast("There are no callbacks to redeliver.")
}

// findCustomer finds the runs of a customer by metadata, and by a word of the message.
func (v *visitor) findCustomer() {
	api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"message": "/say Refund booked", "subject": "Of ACME",
		"metadata": map[string]any{"customer": map[string]any{"id": 4711}}})
	api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"message": "/say hello", "subject": "Of another"})
	v.open("/admin/runs")
	v.fill("#filter [name=metadata]", "customer.id=4711")
	v.click("#filter button")
	v.until(`location.search === "?metadata.customer.id=4711"`)
	v.settled()
	v.shows("#list", "Of ACME")
	require.NotContains(v.t, v.text("#list"), "Of another")
	v.shows("#searched", "metadata of")
	v.shows("#searched", "These are all that match the filter")
	require.Equal(v.t, "customer.id=4711", eval[string](v, `document.querySelector("#filter [name=metadata]").value`))
	v.fill("[name=q]", "REFUND")
	v.click("#filter button")
	v.until(`location.search === "?q=REFUND&metadata.customer.id=4711"`)
	v.settled()
	v.shows("#list", "Of ACME")
	v.click("#redeliver-many")
	v.toast("There are no callbacks to redeliver.")
}

// dataAndRetention sees what is kept, and how much.
func (v *visitor) dataAndRetention() {
	v.click(`.side a[href$="data"]`)
	v.until(`location.pathname === "/admin/data"`)
	v.settled()
	v.shows("#kept", "forever")
	v.shows("#kept", "366 days")
	v.shows("#stored", "Oldest run")
	v.shows("#purge", "Last complete pass")
}
