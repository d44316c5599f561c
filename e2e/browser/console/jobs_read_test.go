package console_test

import (
	"fmt"
	"regexp"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

var secretOf = regexp.MustCompile("[0-9a-f]{64}")

func focusOn(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Focus(chromedp.CSS(selector))
}

// watch finds a run in the live list and watches it from the queue to its end, without
// loading a page again. busy is how many runs keep the workers from it.
func (v *visitor) watch(line string, busy int) {
	t := v.t
	var blocks []accepted
	v.job("follow a live run", 3, func() {
		v.menu("runs")
		v.shows("#live", "Live")
		v.until("window.same = true")
		for range busy {
			blocks = append(blocks, v.send(line, "/hang"))
		}
		run := v.send(line, "/stream 5\n/tool calculator {\"expression\": \"6*7\"}\n/say The answer is 42")
		v.shows(fmt.Sprintf(`#list tr[data-id="%d"]`, run.RunID), "queued")
		v.until("window.same")
		v.follow(fmt.Sprintf(`#list a[href$="runs/%d"]`, run.RunID), fmt.Sprintf(`location.pathname === "/admin/runs/%d"`, run.RunID))
		v.shows("#status", "queued")
		v.shows("#result", "waits for a free worker")
		v.shows("#live", "Live")
		v.part("events")
		v.until("window.same = true")
		api(t, v.site, fmt.Sprintf("POST /runs/%d/cancel", blocks[0].RunID), map[string]any{})
		v.shows("#status", "completed")
		v.shows("#result", "The answer is 42")
		v.shows("#feed", "tool_completed")
		v.shows("#feed", "run_completed")
		v.shows("#live", "Complete")
		v.shows("#facts", "Tokens")
		require.True(t, eval[bool](v, "window.same"), "the page was not loaded again")
		require.Equal(t, "completed", api(t, v.site, fmt.Sprintf("GET /runs/%d", run.RunID), nil)["status"])
	})
	v.until(`["Tools", "Queue"].every((name) => document.querySelector("#timeline").textContent.includes(name))`)
	v.feedIsInOrder()
	v.times()
	for _, run := range blocks[1:] {
		api(t, v.site, fmt.Sprintf("POST /runs/%d/cancel", run.RunID), map[string]any{})
	}
}

// readConversation finds a conversation by its key and reads it.
func (v *visitor) readConversation() {
	first := v.converse("ticket 4711", "/tool calculator {\"expression\": \"6*7\"}\n/say "+evil)
	second := v.converse("ticket 4711", "/history")
	v.ends(second["run_id"], "completed")
	v.job("read a conversation", 4, func() {
		v.menu("conversations")
		v.fill("#filter input", "ticket 4711")
		v.follow("#filter button", `location.search === "?conversation_key=ticket+4711"`)
		v.until(`document.querySelectorAll("#list tbody tr").length === 1`)
		v.shows("#list", fmt.Sprintf("Run %v", second["run_id"]))
		v.follow("#list a", fmt.Sprintf(`location.pathname === "/admin/conversations/%v"`, first["trigger_id"]))
		v.shows("h1", fmt.Sprintf("Conversation %v", first["trigger_id"]))
		v.shows("main", "ticket 4711")
		v.shows("#transcript .assistant .body", "assistant: ") // the answer to /history
		v.shows("#transcript .user", "/history")
		v.until(`document.querySelectorAll("#runs li").length === 2`)
		v.click("#transcript summary")
		v.shows("#transcript .call", "6*7")
		v.shows("#transcript .call", "42")
	})
	stored := v.items(fmt.Sprintf("/conversations/%v/messages", first["trigger_id"]))
	for _, message := range stored {
		v.until(fmt.Sprintf(`document.querySelector("#transcript").textContent.includes(%s)`, quote(message["content"].(string))))
	}
}

// loadOverTime sees how many runs ended, how long they took and what failed, as a chart
// and as a table, and goes from a bar to its runs.
func (v *visitor) loadOverTime() {
	v.job("see load, durations and errors over time", 4, func() {
		v.follow(`#ranges a[href="?range=7d"]`, `location.search === "?range=7d"`)
		v.shows("#results", " completed")
		v.shows("#durations", "Median")
		v.shows("#errors", "529 overloaded")
		v.shows("#receivers", "old.example:443")
		v.click("#as-table")
		sum := func(column string) int {
			return eval[int](v, fmt.Sprintf(`[...document.querySelectorAll('#results [data-label="%s"]')].reduce((sum, cell) => sum + Number(cell.textContent.replaceAll(",", "")), 0)`, column))
		}
		for _, count := range v.items("/runs/counts") {
			if status := count["status"].(string); status == "completed" || status == "failed" {
				require.EqualValues(v.t, count["count"], sum(status), status)
			}
		}
		v.click("#as-table")
		bar := eval[int](v, `(() => { // the highest one
			const all = [...document.querySelectorAll("#results .bars-chart a")], runs = all.map((a) => Number(/: ([\d,]+) completed/.exec(a.ariaLabel)[1]));
			return runs.indexOf(Math.max(...runs)) + 1;
		})()`)
		v.follow(fmt.Sprintf("#results .bars-chart a:nth-of-type(%d)", bar), `location.pathname === "/admin/runs" && location.search.includes("from=")`)
		v.shows("#list", "completed")
	})
	stored := v.items("/runs" + eval[string](v, "location.search") + "&limit=50")
	require.Len(v.t, stored, eval[int](v, `document.querySelectorAll("#list tbody tr").length`))
}
