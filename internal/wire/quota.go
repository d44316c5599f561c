package wire

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Quota is what a policy of limits allows and what is left of it, in the form of
// the RateLimit-Policy and RateLimit headers
// (draft-ietf-httpapi-ratelimit-headers-10, §3 and §4).
type Quota struct {
	Policy    string        // its name, of letters only
	Limit     int           // q: how much there is in all
	Window    time.Duration // w: what Limit counts for, in whole seconds; 0: it does not count by time
	Unit      string        // qu: what is counted; "": requests
	Remaining int           // r: how much is left
	Reset     time.Duration // t: until there is more; 0: not sent
}

// Set puts the quota into the headers of an answer.
func (q *Quota) Set(h http.Header) {
	var policy, state strings.Builder
	policy.WriteString(`"` + q.Policy + `";q=` + strconv.Itoa(q.Limit))
	if q.Unit != "" {
		policy.WriteString(`;qu="` + q.Unit + `"`)
	}
	if q.Window > 0 {
		policy.WriteString(";w=" + seconds(q.Window))
	}
	state.WriteString(`"` + q.Policy + `";r=` + strconv.Itoa(q.Remaining))
	if q.Reset > 0 {
		state.WriteString(";t=" + seconds(q.Reset))
	}
	h.Set("RateLimit-Policy", policy.String())
	h.Set("RateLimit", state.String())
}

// seconds is a time in whole seconds, rounded up, so that no client retries too early.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
