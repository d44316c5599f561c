package client

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// problem is what an answer says that is an error.
type problem struct {
	err      *Error
	purgedTo int64
}

const maxProblem = 64 << 10

// readProblem reads an answer that is not what was asked for.
func readProblem(resp *http.Response) problem {
	p := problem{err: &Error{
		Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id"), RetryAfter: retryAfter(resp.Header),
	}}
	if resp.StatusCode/100 == 3 {
		p.err.Detail = fmt.Sprintf("redirects are not followed, and this one leads to %q", resp.Header.Get("Location"))
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media != "application/problem+json" {
		return p
	}
	var body struct {
		Code     string  `json:"code"`
		Detail   string  `json:"detail"`
		Errors   []Fault `json:"errors"`
		PurgedTo int64   `json:"purged_to"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&body) == nil {
		p.err.Code, p.err.Detail, p.err.Faults, p.purgedTo = body.Code, body.Detail, body.Errors, body.PurgedTo
	}
	return p
}

// retryAfter reads Retry-After (RFC 9110 §10.2.3), seconds or a date. 0: there is
// none, or it has passed.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if s, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
