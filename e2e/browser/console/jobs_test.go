package console_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestJobs does the jobs of an operator over many runs.
func TestJobs(t *testing.T) {
	t.Parallel()
	r := receive(t)
	site := serve(t, append(r.flags(), "-db", "memory")...)
	v := visit(t, site)
	v.signIn()
	v.redeliverFailed(r)
	v.cancelStuck()
	v.answerWaiting()
	v.whoChangedTheKey()
	v.findCustomer()
	v.dataAndRetention()
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

// redeliverFailed finds the callbacks that failed in the last hour, and sends them again.
func (v *visitor) redeliverFailed(r *receiver) {
	api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"message": "/say done", "callback_url": r.url + "/hook"})
	require.Eventually(v.t, func() bool {
		return len(api(v.t, v.site, "GET /deliveries?state=failed", nil)["items"].([]any)) == 1
	}, patience, 50*time.Millisecond, "the first answer of the receiver is an error")
	v.open("/admin/callbacks?range=1h")
	v.shows("#list", "HTTP 500")
	v.click("#receivers button")
	v.shows("#dialog-title", "Redeliver 1 callback?")
	v.confirm()
	v.toast("1 callback will be sent again.")
	v.shows("#receivers", "all delivered")
	eval[bool](v, `(document.querySelector("#redeliver").click(), true)`) // it may move: the list is loaded again
	v.toast("There are no callbacks to redeliver.")
	require.Equal(v.t, 2, r.received())
}

// cancelStuck sees what runs, cancels two runs by selection and the rest by filter.
func (v *visitor) cancelStuck() {
	var runs []any
	for range 4 {
		runs = append(runs, api(v.t, v.site, "POST /assistants/2/test-trigger", map[string]any{"message": "/hang", "subject": "Stuck"})["run_id"])
	}
	v.open("/admin/runs")
	v.click(`#statuses a[href*="status=running"]`)
	v.until(`location.search === "?status=running"`)
	v.settled()
	v.shows("#list", "Stuck")
	for _, run := range runs[:2] {
		v.click(fmt.Sprintf(`#list tr[data-id="%v"] input[type=checkbox]`, run))
	}
	v.shows("#selected", "2 selected")
	v.click("#cancel-many")
	v.shows("#dialog-title", "Cancel 2 runs?")
	v.confirm()
	v.toast("2 runs cancelled.")
	v.until(`document.activeElement.id === "cancel-many"`)
	v.shows("#selected", "All that match the filter")
	v.shows("#statuses", "running 2")
	v.click("#cancel-many")
	v.shows("#dialog-title", "Cancel 2 runs?")
	v.confirm()
	v.toast("2 runs cancelled.")
	v.shows("#list", "No runs match this filter")
	v.shows("#statuses", "cancelled 4")
}

// whoChangedTheKey rotates a leaked key and finds who did.
func (v *visitor) whoChangedTheKey() {
	key := api(v.t, v.site, "POST /assistants/2/keys", map[string]any{"name": "Leaked"})
	api(v.t, v.site, fmt.Sprintf("POST /keys/%v/rotate", key["id"]), map[string]any{"grace_period": 0})
	v.open("/admin/")
	v.click(`.side a[href$="audit"]`)
	v.until(`location.pathname === "/admin/audit"`)
	v.settled()
	v.shows("#list tbody tr:first-child", "Key rotated")
	v.shows("#list tbody tr:first-child", "admin")
	v.click(`#list tbody tr:first-child a[aria-label^="Entries about key/"]`)
	v.until(fmt.Sprintf(`location.search === "?object=key%%2F%v"`, key["id"]))
	v.settled()
	require.Len(v.t, eval[[]string](v, `[...document.querySelectorAll("#list tbody tr")].map((r) => r.innerText)`), 2)
	require.NotContains(v.t, v.text("main"), key["key"])
}
