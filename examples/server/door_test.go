package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	evaluation "github.com/webtrigger-go/webtrigger/examples/server"
)

// visitor sends requests to a sign-in from one address.
type visitor struct {
	door    http.Handler
	address string
	cookies []*http.Cookie
}

func (v *visitor) do(r *http.Request) *httptest.ResponseRecorder {
	r.RemoteAddr = v.address
	for _, cookie := range v.cookies {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	v.door.ServeHTTP(w, r)
	return w
}

func (v *visitor) signIn(password string) int {
	form := url.Values{"username": {"admin"}, "password": {password}, "next": {"/admin/runs?x=1"}}
	r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return v.do(r).Code
}

func (v *visitor) basic(password string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/admin/api/runs", nil)
	r.SetBasicAuth("admin", password)
	return v.do(r)
}

func TestSignIn_manyFailures_areThrottled(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(v *visitor) int{
		"form":  func(v *visitor) int { return v.signIn("wrong") },
		"basic": func(v *visitor) int { return v.basic("wrong").Code },
	} {
		synctest.Test(t, func(t *testing.T) {
			door := evaluation.Door("right")
			attacker, other := &visitor{door: door, address: "192.0.2.1:1"}, &visitor{door: door, address: "192.0.2.2:1"}
			for range 10 {
				require.Equal(t, http.StatusUnauthorized, fail(attacker), name)
			}
			for range 1000 {
				attacker.address = fmt.Sprintf("192.0.2.1:%d", time.Now().UnixNano()%60000)
				require.Equal(t, http.StatusTooManyRequests, fail(attacker), name)
			}
			require.Equal(t, http.StatusTooManyRequests, attacker.signIn("right"), "a guess during the pause must not be checked")
			refused := attacker.basic("right")
			require.Equal(t, http.StatusTooManyRequests, refused.Code)
			require.Equal(t, "application/problem+json", refused.Header().Get("Content-Type"))
			wait, err := strconv.Atoi(refused.Header().Get("Retry-After"))
			require.NoError(t, err)
			require.Equal(t, http.StatusSeeOther, other.signIn("right"), "failures of one address must not lock out another")
			require.Equal(t, http.StatusNoContent, other.basic("right").Code)

			require.LessOrEqual(t, wait, 3)
			time.Sleep(time.Duration(wait) * time.Second)
			require.Equal(t, http.StatusSeeOther, attacker.signIn("right"), "the lock-out must last seconds")
		})
	}
}

func TestSignIn_successes_areNotThrottled(t *testing.T) {
	t.Parallel()
	v := &visitor{door: evaluation.Door("right"), address: "192.0.2.1:1"}
	for range 1000 {
		require.Equal(t, http.StatusNoContent, v.basic("right").Code)
		require.Equal(t, http.StatusSeeOther, v.signIn("right"))
	}
}

// All share the address of a proxy. A browser that has signed in before gets in.
func TestSignIn_knownBrowserBehindProxy_isNotLockedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		door := evaluation.Door("right")
		known, attacker := &visitor{door: door, address: "192.0.2.1:1"}, &visitor{door: door, address: "192.0.2.1:1"}
		form := strings.NewReader("username=admin&password=right")
		r := httptest.NewRequest(http.MethodPost, "/login", form)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, cookie := range known.do(r).Result().Cookies() {
			require.True(t, cookie.HttpOnly)
			if cookie.Name == "webtrigger_browser" {
				known.cookies = append(known.cookies, cookie)
			}
		}
		require.Len(t, known.cookies, 1)
		for range 20 {
			attacker.signIn("wrong")
		}
		require.Equal(t, http.StatusTooManyRequests, attacker.signIn("right"))
		require.Equal(t, http.StatusSeeOther, known.signIn("right"))

		for range 10 {
			require.Equal(t, http.StatusUnauthorized, known.signIn("wrong"))
		}
		require.Equal(t, http.StatusTooManyRequests, known.signIn("right"), "a known browser has a budget too")
		attacker.cookies = []*http.Cookie{{Name: "webtrigger_browser", Value: "made up.0000"}}
		require.Equal(t, http.StatusTooManyRequests, attacker.signIn("right"), "a cookie must be signed")
	})
}

// Many addresses guess together: the rate of all is bounded, so is the memory, and
// others get in soon.
func TestSignIn_manyAddresses_areThrottledTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		door := evaluation.Door("right")
		began, checked := time.Now(), 0
		for time.Since(began) < 20*time.Minute {
			for range 20 {
				n := int(time.Since(began)/time.Millisecond)*20 + checked
				v := &visitor{door: door, address: fmt.Sprintf("[2001:db8:%x:%x::1]:1", n>>16&0xffff, n&0xffff)}
				if v.signIn("wrong") == http.StatusUnauthorized {
					checked++
				}
			}
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, checked, 100+10*20*60+1)
		w := (&visitor{door: door}).do(httptest.NewRequest(http.MethodGet, "/callers", nil))
		callers, err := strconv.Atoi(w.Body.String())
		require.NoError(t, err)
		require.LessOrEqual(t, callers, evaluation.MaxCallers)

		same := &visitor{door: door, address: "[2001:db8:ffff::1]:1"}
		for i := range 10 {
			same.address = fmt.Sprintf("[2001:db8:ffff::%x]:1", i+1)
			same.signIn("wrong")
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(time.Second)
		require.Equal(t, http.StatusSeeOther, (&visitor{door: door, address: "192.0.2.9:1"}).signIn("right"), "others must get in soon")
	})
}

func TestSignIn_target_isLocal(t *testing.T) {
	t.Parallel()
	door := evaluation.Door("right")
	for next, want := range map[string]string{
		"":                                 "/admin/",
		"/admin/runs/7?a=b%20c":            "/admin/runs/7?a=b%20c",
		"/watch/?conversation=1":           "/watch/?conversation=1",
		"/conversations/1/agent-events":    "/conversations/1/agent-events",
		"https://evil.example/":            "/admin/",
		"//evil.example/":                  "/admin/",
		"///evil.example/":                 "/admin/",
		`/\evil.example/`:                  "/admin/",
		`\\evil.example/`:                  "/admin/",
		"/\t/evil.example/":                "/admin/",
		"\n//evil.example/":                "/admin/",
		"javascript:alert(1)":              "/admin/",
		"evil.example":                     "/admin/",
		"/login?next=/login":               "/admin/",
		"/logout":                          "/admin/",
		"/":                                "/admin/",
		"/admin/\r\nSet-Cookie: session=1": "/admin/",
	} {
		form := url.Values{"username": {"admin"}, "password": {"right"}, "next": {next}}
		r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := (&visitor{door: door, address: "192.0.2.1:1"}).do(r)
		require.Equal(t, http.StatusSeeOther, w.Code)
		require.Equal(t, want, w.Header().Get("Location"), "%q", next)
	}
}

func TestSignIn_pageAskedFor_isKept(t *testing.T) {
	t.Parallel()
	v := &visitor{door: evaluation.Door("right"), address: "192.0.2.1:1"}
	r := httptest.NewRequest(http.MethodGet, "/admin/runs?x=%221%22", nil)
	r.Header.Set("Accept", "text/html,*/*")
	w := v.do(r)
	require.Equal(t, http.StatusSeeOther, w.Code)
	target := w.Header().Get("Location")
	require.Equal(t, "/login?next=%2Fadmin%2Fruns%3Fx%3D%25221%2522", target)
	page := v.do(httptest.NewRequest(http.MethodGet, target, nil)).Body.String()
	require.Contains(t, page, `name="next" value="/admin/runs?x=%221%22"`)

	r = httptest.NewRequest(http.MethodGet, "/login", nil) // by the link of a page whose session has ended
	r.Header.Set("Referer", "http://example.com/admin/runs/7")
	require.Contains(t, v.do(r).Body.String(), `value="/admin/runs/7"`)
	r.Header.Set("Referer", "http://evil.example/admin/runs/7")
	require.Contains(t, v.do(r).Body.String(), `value="/admin/"`)

	r = httptest.NewRequest(http.MethodPost, "/login", strings.NewReader("username=admin&password=%22wrong%3C&next=/admin/runs/7"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w = v.do(r)
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.Contains(t, w.Header().Get("Content-Type"), "text/html")
	require.Contains(t, w.Body.String(), "The user name or the password is wrong.")
	require.Contains(t, w.Body.String(), `value="/admin/runs/7"`)
	require.NotContains(t, w.Body.String(), "wrong&lt;", "a password must not be in the page")
	require.NotContains(t, w.Body.String(), "wrong<")
}
