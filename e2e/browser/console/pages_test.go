package console_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// furnish creates resources of every kind for assistant 1. It returns the pages that
// show them, by name.
func furnish(t *testing.T, site string, r *receiver, text string) map[string]string {
	t.Helper()
	trigger := func(body map[string]any) string {
		return fmt.Sprint(api(t, site, "POST /assistants/1/test-trigger", body)["run_id"])
	}
	api(t, site, "POST /assistants/1/keys", map[string]any{"name": "Zapier" + text})
	api(t, site, "POST /assistants/1/keys", map[string]any{"name": "CI pipeline", "expires_at": "2100-01-01T00:00:00Z"})
	report := api(t, site, "POST /assistants/1/tasks", map[string]any{"name": "Weekly report" + text, "instructions": "Write the weekly report.",
		"output_type": "markdown", "allowed_tools": []string{"calculator", "current_time"}})
	extract := api(t, site, "POST /assistants/1/tasks", map[string]any{"name": "Extract the total", "instructions": "Answer with the total of the order.",
		"output_type": "json", "output_schema": map[string]any{"type": "object", "required": []string{"total"}}})
	done := trigger(map[string]any{"subject": "Report for week 16" + text, "task_definition_id": report["id"], "callback_url": r.url + "/hooks/report",
		"context": map[string]any{"week": 16, "region": "EMEA" + text}, "metadata": map[string]any{"source": "crm"},
		"message": "/tool calculator {\"expression\": \"1204 * 1.04\"}\n/sleep 350ms\n/tool current_time {}\n/sleep 150ms\n" +
			"/say **Week 16**" + text + ": sales rose by **4 %** to `1252.16`, see [the dashboard](https://example.com/week/16)."})
	trigger(map[string]any{"message": "/say {\"total\": 1252.16}", "task_definition_id": extract["id"]})
	failed := trigger(map[string]any{"message": "/fail The CRM does not answer" + text})
	running := trigger(map[string]any{"message": "/stream 3\n/hang"})
	waiting := trigger(map[string]any{"message": "/approve calculator {\"expression\": \"1204 * 1.04\"}", "subject": "Refund of order 4711" + text})
	question := trigger(map[string]any{"message": "/ask Which account" + text + "?"})
	first := trigger(map[string]any{"conversation_key": "ticket 4711", "subject": "Ticket 4711" + text, "metadata": map[string]any{"customer": "ACME"},
		"message": "/tool search_knowledge {\"query\": \"refund\"}\n/say Refunds take five days" + text + "."})
	require.Eventually(t, func() bool { return api(t, site, "GET /runs/"+first, nil)["status"] == "completed" }, patience, 20*time.Millisecond)
	ticket := fmt.Sprint(api(t, site, "POST /assistants/1/test-trigger", map[string]any{"conversation_key": "ticket 4711", "message": "/history"})["trigger_id"])
	return map[string]string{
		"login": "/login", "assistants": "/admin/", "channel": "/admin/assistants/1", "keys": "/admin/assistants/1/keys",
		"tasks": "/admin/assistants/1/tasks", "new-task": "/admin/assistants/1/tasks/new", "task": "/admin/tasks/" + fmt.Sprint(extract["id"]),
		"test": "/admin/assistants/1/test", "overview": "/admin/overview", "audit": "/admin/audit", "callbacks": "/admin/callbacks", "runs": "/admin/runs", "no-runs": "/admin/runs?status=queued", "wrong-runs": "/admin/runs?cursor=x", "found-runs": "/admin/runs?q=refund&metadata.customer=ACME",
		"run": "/admin/runs/" + done, "failed-run": "/admin/runs/" + failed, "running-run": "/admin/runs/" + running, "nothing": "/admin/runs/999",
		"api-keys": "/admin/keys", "all-tasks": "/admin/tasks",
		"signing-secrets": "/admin/signing-secrets?assistant_id=1", "no-signing-secrets": "/admin/signing-secrets", "data": "/admin/data",
		"waiting": "/admin/waiting", "waiting-run": "/admin/runs/" + waiting, "question-run": "/admin/runs/" + question,
		"conversations": "/admin/conversations", "conversation": "/admin/conversations/" + ticket, "events": "/admin/runs/" + done + "#events",
		"timeline": "/admin/runs/" + done + "#timeline", "callback": "/admin/runs/" + done + "#callback", "request": "/admin/runs/" + done + "#request",
	}
}

// look sets how wide and in which colours the pages are shown.
func (v *visitor) look(width int64, scheme string) {
	v.t.Helper()
	v.do(chromedp.EmulateViewport(width, 720), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	}))
}

// TestScreenshots takes the pictures that docs/console.md shows. They are kept in
// the directory that WEBTRIGGER_SCREENSHOTS names, with those of all pages if
// WEBTRIGGER_SCREENSHOTS_ALL is set. Where neither is, two show that it works.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	kept := os.Getenv("WEBTRIGGER_SCREENSHOTS")
	dir := cmp.Or(kept, t.TempDir())
	wanted := documented
	if kept == "" {
		wanted = map[string]bool{"runs-390-dark.png": true, "run-1280-light.png": true}
	}
	all := os.Getenv("WEBTRIGGER_SCREENSHOTS_ALL") != ""
	r := receive(t)
	site := serve(t, append(r.flags(), seeded(t)...)...)
	pages := furnish(t, site, r, "")
	v := visit(t, site)
	v.allowErrors = true
	v.signIn()
	taken := 0
	for name, path := range pages {
		for _, width := range []int64{390, 768, 1280, 1440} {
			for _, scheme := range []string{"light", "dark"} {
				file := fmt.Sprintf("%s-%d-%s.png", name, width, scheme)
				if !all && !wanted[file] {
					continue
				}
				v.look(width, scheme)
				v.open(path)
				switch name {
				case "run":
					v.shows("#deliveries .badge", "failed")
				case "waiting-run", "question-run":
					v.shows("#ask-title", "Waiting for")
				}
				picture := v.picture(all)
				require.Equal(t, int(width), picture.Bounds().Dx(), file)
				var out bytes.Buffer
				encoder := png.Encoder{CompressionLevel: png.BestCompression}
				require.NoError(t, encoder.Encode(&out, picture))
				require.NoError(t, os.WriteFile(filepath.Join(dir, "console-"+file), out.Bytes(), 0o644))
				if !all {
					require.Less(t, out.Len(), 150_000, file)
				}
				taken++
			}
		}
	}
	require.GreaterOrEqual(t, taken, len(wanted))
}

// picture is what the window shows, or the whole page. It has 64 levels of each colour: the
// difference is invisible, and the files are smaller.
func (v *visitor) picture(whole bool) image.Image {
	v.t.Helper()
	take := chromedp.CaptureScreenshot()
	if whole {
		take = chromedp.FullScreenshot(100)
	}
	content, err := chromedp.Run(v.tab, take)
	require.NoError(v.t, err)
	decoded, err := png.Decode(bytes.NewReader(content))
	require.NoError(v.t, err)
	picture := image.NewRGBA(decoded.Bounds())
	draw.Draw(picture, picture.Bounds(), decoded, image.Point{}, draw.Src)
	for i := range picture.Pix {
		picture.Pix[i] |= 3
	}
	return picture
}

// documented are the pictures that the document holds.
var documented = map[string]bool{
	"overview-1280-light.png": true, "overview-1280-dark.png": true, "runs-1280-light.png": true, "run-1280-light.png": true, "callbacks-1280-light.png": true,
	"conversation-1280-light.png": true, "api-keys-1280-light.png": true, "task-1280-light.png": true, "runs-390-dark.png": true,
}
