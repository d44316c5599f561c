package console_test

import (
	"fmt"

	"github.com/stretchr/testify/require"
)

// findKey finds a key of any assistant by its plaintext, which does not leave the page.
func (v *visitor) findKey() {
	other := api(v.t, v.site, "POST /assistants/1/keys", map[string]any{"name": "n8n"})
	leaked := api(v.t, v.site, "POST /assistants/2/keys", map[string]any{"name": "Leaked"})
	v.open("/admin/")
	v.click(`.side a[href$="keys"]`)
	v.until(`location.pathname === "/admin/keys"`)
	v.settled()
	v.shows("#list", "n8n")
	v.shows("#list", "Leaked")
	v.shows("h1", "API Keys")
	v.shows(".tabs", "Assistant Keys")
	v.fill("#filter input[name=prefix]", " "+leaked["key"].(string))
	v.click("#filter button")
	v.until(fmt.Sprintf(`location.search === "?prefix=%s"`, leaked["prefix"]))
	v.settled()
	v.shows("#list", "Leaked")
	require.NotContains(v.t, v.text("#list"), other["prefix"])
	v.click("#list [data-label=Runs] a")
	v.until(fmt.Sprintf(`location.search === "?assistant_id=2&key_id=%v"`, leaked["id"]))
	v.settled()
	v.shows("#list", "No runs match this filter")
}

// tasksOfAll lists the tasks of all assistants.
func (v *visitor) tasksOfAll() {
	api(v.t, v.site, "POST /assistants/1/tasks", map[string]any{"name": "Weekly report", "instructions": "i"})
	api(v.t, v.site, "POST /assistants/2/tasks", map[string]any{"name": "Old report", "instructions": "i", "active": false})
	v.open("/admin/tasks")
	v.shows("#list", "Weekly report")
	v.shows("#list", "Old report")
	v.fill("#filter select[name=active]", "false")
	v.click("#filter button")
	v.until(`location.search === "?active=false"`)
	v.settled()
	v.shows("#list", "Old report")
	require.NotContains(v.t, v.text("#list"), "Weekly report")
}

// lostUpdate saves a task that another visitor has changed meanwhile.
func (v *visitor) lostUpdate() {
	v.allowErrors = true // the 412
	task := api(v.t, v.site, "POST /assistants/1/tasks", map[string]any{"name": "Shared", "instructions": "i"})
	path := fmt.Sprintf("/tasks/%v", task["id"])
	v.open("/admin" + path)
	v.fill("input[name=name]", "Mine")
	v.click("#task button.main")
	v.toast("The task is saved")
	api(v.t, v.site, "PUT "+path, map[string]any{"name": "Theirs", "instructions": "i"})
	v.fill("input[name=name]", "Mine again")
	v.click("#task button.main")
	v.shows("#dialog-title", "has changed")
	require.Equal(v.t, "Theirs", api(v.t, v.site, "GET "+path, nil)["name"])
	v.confirm()
	v.until(`document.querySelector("input[name=name]")?.value === "Theirs"`)
}
