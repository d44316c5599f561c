package console_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"
)

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

// manyTasks offers the tasks of an assistant that has more of them than a page of a list.
func (v *visitor) manyTasks() {
	const tasks = 201
	for i := range tasks {
		api(v.t, v.site, "POST /assistants/many/tasks", map[string]any{"name": fmt.Sprint("Task ", i), "instructions": "i"})
	}
	v.open("/admin/runs?assistant_id=many")
	v.until(fmt.Sprintf(`document.querySelector("#filter select[name=task_definition_id]").options.length === %d`, tasks+1)) // and Any
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

// signingSecrets creates, rolls and sets the secrets of an assistant. Each is shown once, at
// its creation, and signs callbacks.
func (v *visitor) signingSecrets(r *receiver) {
	r.reject(0)
	var first, second string
	v.job("set and roll a signing secret", 7, func() {
		v.menu("signing-secrets")
		v.fill("#filter select", "2")
		v.follow("#filter button", `location.search === "?assistant_id=2"`)
		v.shows("#state", "No secret of its own")
		v.click("#roll")
		v.toast("The secret is created")
		v.focused(`e.id === "created-title"`)
		first = v.text("#secret code")
		v.shows("#state", "One secret signs each callback. Set: ")
		v.click("#roll")
		v.confirm()
		v.toast("The secret is rolled")
		second = v.text("#secret code")
		v.until(`document.querySelector("#roll").hidden`)
		require.Equal(v.t, []string{second, first}, v.signers(r, first, second))
		v.click("#finish")
		v.confirm()
		v.toast("The old secret is removed")
		v.focused(`e.id === "state-title"`)
		v.until(`document.querySelector("#created").hidden`)
	})
	require.NotEqual(v.t, first, second)
	require.Equal(v.t, []string{second}, v.signers(r, first, second))
	require.EqualValues(v.t, 1, api(v.t, v.site, "GET /assistants/2/signing-secrets", nil)["secrets"])

	v.click("#notices button") // which may cover the form
	v.fill("#set input", "whsec_MDEy")
	v.click("#set button")
	v.confirm()
	v.shows("#set .fault", "must be whsec_ and the base64")
	v.fill("#set input", first)
	v.click("#set button")
	v.confirm()
	v.toast("The secret is set")
	require.Equal(v.t, []string{first}, v.signers(r, first, second))
	v.open("/admin/signing-secrets?assistant_id=2")
	v.shows("#state", "One secret")
	for _, secret := range []string{first, second} {
		require.NotContains(v.t, eval[string](v, "document.documentElement.outerHTML"), secret)
	}
	v.click("#remove")
	v.confirm()
	v.shows("#state", "No secret of its own")
}

// signers returns which secrets sign a test callback.
func (v *visitor) signers(r *receiver, secrets ...string) (signers []string) {
	v.t.Helper()
	api(v.t, v.site, "POST /assistants/2/test-callback", map[string]any{"callback_url": r.url})
	header, body := r.last()
	for signature := range strings.FieldsSeq(header.Get("Webhook-Signature")) {
		for _, secret := range secrets {
			key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
			require.NoError(v.t, err)
			mac := hmac.New(sha256.New, key)
			fmt.Fprintf(mac, "%s.%s.%s", header.Get("Webhook-Id"), header.Get("Webhook-Timestamp"), body)
			if signature == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
				signers = append(signers, secret)
			}
		}
	}
	return signers
}
