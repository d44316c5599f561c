package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// problem is an error response.
type problem struct {
	err      *Error
	purgedTo int64
}

const maxProblem = 64 << 10

// readProblem reads an error response. Of a body that is not a problem, such as
// the page of a CDN, it keeps the media type only.
func readProblem(resp *http.Response) problem {
	p := problem{err: &Error{
		Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id"), RetryAfter: retryAfter(resp.Header),
	}}
	if resp.StatusCode/100 == 3 {
		p.err.Detail = fmt.Sprintf("redirect to %q not followed", resp.Header.Get("Location"))
		return p
	}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return p
	}
	p.err.Detail = fmt.Sprintf("response of type %q is not a problem of the service: check the proxy or CDN in front of it", media)
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

// retryAfter reads Retry-After (RFC 9110 §10.2.3), seconds or a date. 0: the header
// is missing, or the date has passed.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if s, err := strconv.ParseUint(value, 10, 31); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(s) * time.Second // at most 68 years
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
