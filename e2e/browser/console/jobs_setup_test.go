package console_test

import (
	"encoding/json"
	"fmt"

	"github.com/stretchr/testify/require"
)

// rotateLeaked finds a key by its plaintext, which does not leave the page, replaces it at
// once, and sees what it did and who changed it.
func (v *visitor) rotateLeaked(line string) {
	leaked := v.items("/assistants/2/keys")[0]
	secret := secretOf.FindString(line)
	require.Contains(v.t, secret, leaked["prefix"])
	var next string
	v.job("rotate a leaked key and see what it did", 7, func() {
		v.menu("keys")
		v.fill("#prefix", " "+secret)
		v.follow("#filter button", fmt.Sprintf(`location.search === "?prefix=%v"`, leaked["prefix"]))
		v.until(`document.querySelectorAll("#list tbody tr").length === 1`)
		v.click("#list button.small:not(.danger)")
		v.shows("#dialog-title", evil)
		v.fill("#dialog-select", "0")
		v.confirm()
		v.toast("is rotated")
		v.shows("#replaced", "expires: ")
		next = v.text("#curl code")
		v.follow(`#list [data-label="Last used"] a`, fmt.Sprintf(`location.search === "?assistant_id=2&key_id=%v"`, leaked["id"]))
		v.shows("#list", "completed")
		v.menu("audit")
		v.shows("#list tbody tr:first-child", "Key rotated")
		v.shows("#list tbody tr:first-child", "admin")
		v.follow(`#list tbody tr:first-child a[aria-label^="Entries about key/"]`, fmt.Sprintf(`location.search === "?object=key%%2F%v"`, leaked["id"]))
	})
	require.Len(v.t, eval[[]string](v, `[...document.querySelectorAll("#list tbody tr")].map((r) => r.innerText)`), 2)
	for _, plaintext := range []string{secret, secretOf.FindString(next)} {
		require.NotContains(v.t, v.text("main"), plaintext)
	}
	require.Contains(v.t, shell(v.t, line), `"status":401`)
	require.Contains(v.t, shell(v.t, next), "accepted")
	runs := v.items(fmt.Sprintf("/runs?key_id=%v&assistant_id=2", leaked["id"]))
	require.NotEmpty(v.t, runs)
}

// runTask creates a task whose result is JSON, and runs it.
func (v *visitor) runTask() {
	const totals = `{"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}`
	v.job("define a task with schema and tools, and test it", 6, func() {
		v.menu("tasks")
		v.fill("#new", "2")
		v.until(`location.pathname === "/admin/assistants/2/tasks/new"`)
		v.settled()
		v.shows("#tools", "calculator")
		v.fill("input[name=name]", "Extract "+evil)
		v.fill("textarea[name=instructions]", "Answer in JSON. "+evil)
		v.click("input[value=json]")
		v.fill("#output_schema", totals)
		v.click("#tools input[value=calculator]")
		v.click("#task button.main")
		v.until(`/\/admin\/tasks\/\d+$/.test(location.pathname)`)
		v.settled()
		v.follow(`a[href*="/test?task="]`, `location.pathname.endsWith("/test")`)
		v.until(`document.querySelector("select[name=task_definition_id]")?.value`)
		v.fill("textarea[name=message]", "/say {\"total\": 123456789012345678901, \"note\": "+quote(evil)+"}")
		v.click("#trigger button.main")
		v.until(`/\/admin\/runs\/\d+$/.test(location.pathname)`)
		v.shows("#status", "completed")
		v.shows("#result pre", `"total": 123456789012345678901`)
	})
	stored := v.items("/assistants/2/tasks")[0]
	require.Equal(v.t, []any{"calculator"}, stored["allowed_tools"])
	schema, err := json.Marshal(stored["output_schema"])
	require.NoError(v.t, err)
	require.JSONEq(v.t, totals, string(schema))
	run := api(v.t, v.site, "GET /runs/"+eval[string](v, "document.body.dataset.run"), nil)
	require.Equal(v.t, stored["id"], run["task_definition_id"])
	v.taskFaults(stored["id"])
	v.exactInput()
}

// taskFaults edits a task wrongly, and then has one of its tools approved.
func (v *visitor) taskFaults(id any) {
	v.open(fmt.Sprintf("/admin/tasks/%v", id))
	v.shows("h2", "Extract "+evil)
	require.Contains(v.t, eval[string](v, `document.querySelector("#output_schema").value`), `"required": [`)
	v.fill("#output_schema", `{"type": "object",`)
	v.shows("#schema-state", "line 1")
	v.click("#task button.main")
	v.shows(".fault", "line 1")
	v.fill("#output_schema", `{"type": "no such type"}`)
	v.click("#task button.main")
	v.until(`document.querySelector("#output_schema[aria-invalid=true]")`) // by the server's word
	v.fill("#output_schema", "")
	v.until(`!document.querySelector("#approvals input[value=current_time]").checkVisibility()`) // the task cannot use it
	v.click("#approvals input[value=calculator]")
	v.click("#task button.main")
	v.toast("The task is saved")
	v.open(fmt.Sprintf("/admin/tasks/%v", id))
	require.True(v.t, eval[bool](v, `["#tools", "#approvals"].every((place) => document.querySelector(place + " input[value=calculator]").checked && !document.querySelector(place + " input[value=current_time]").checked)`))
	v.click("input[value=text]")
	require.False(v.t, eval[bool](v, `document.querySelector("#output_schema").checkVisibility()`))
	v.clean()
}

// exactInput sends context and metadata as they are typed, and shows them as text.
func (v *visitor) exactInput() {
	v.open("/admin/assistants/2/test")
	v.fill("textarea[name=message]", "/say "+evil)
	v.click("#more summary")
	v.fill("input[name=subject]", evil)
	v.fill("textarea[name=context]", `{"ticket": 1e22, "x": `)
	v.click("#trigger button.main")
	v.shows("#trigger .fault", "JSON")
	v.fill("textarea[name=context]", `{"ticket": 1e22, "x": `+quote(evil)+`}`)
	v.fill("textarea[name=metadata]", `[`+quote(evil)+`]`)
	v.click("#trigger button.main")
	v.until(`/\/admin\/runs\/\d+$/.test(location.pathname)`)
	v.shows("#status", "completed")
	v.part("request")
	v.shows("#request-panel", `"ticket": 1e22`)
	for _, place := range []string{"#request-panel .text", "pre[aria-label=Context]", "pre[aria-label=Metadata]", "#result"} {
		v.until(fmt.Sprintf(`document.querySelector(%s).textContent.includes("<script>window.pwned=1")`, quote(place)))
	}
	v.part("events")
	v.shows("#feed", "run_completed")
	eval[bool](v, `(document.querySelectorAll("#feed .line").forEach((line) => line.click()), true)`)
	v.shows("#feed pre", "<script>")
	v.clean()
}

// emptyAndMissing meets pages without data and a page that does not exist, and continues.
func (v *visitor) emptyAndMissing() {
	v.allowErrors = true // the 404 and the 400
	v.job("work through keyboard, error and empty states", 4, func() {
		v.menu("runs")
		v.fill("#filter [name=q], [name=q]", "no run has this subject")
		v.do(focusOn("[name=q]"))
		v.key("Enter")
		v.until(`location.search === "?q=no+run+has+this+subject"`)
		v.settled()
		v.shows("#list", "No runs match this filter")
		v.follow(`#filter a.button`, `location.search === ""`)
		v.shows("#list", "Run ")
		eval[bool](v, `(location.assign("runs?cursor=of+an+old+link"), true)`)
		v.until(`location.search.startsWith("?cursor")`)
		v.shows("#list [role=alert]", "cursor must be")
		v.follow("#pager a", `location.search === ""`)
		v.shows("#list", "Run ")
		eval[bool](v, `(location.assign("runs/999999"), true)`)
		v.shows("h1", "Page not found")
		v.menu("waiting")
		v.shows("#list", "No run waits for input")
	})
	v.allowErrors = false
}
