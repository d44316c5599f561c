package client

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// problem is what an answer says that is an error.
type problem struct {
	err        *Error
	purgedTo   int64
	retryAfter time.Duration
}

const maxProblem = 64 << 10

// readProblem reads an answer that is not what was asked for.
func readProblem(resp *http.Response) problem {
	p := problem{err: &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}}
	if s, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
		p.retryAfter = time.Duration(s) * time.Second
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media != "application/problem+json" {
		return p
	}
	var body struct {
		Code     string `json:"code"`
		Detail   string `json:"detail"`
		PurgedTo int64  `json:"purged_to"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&body) == nil {
		p.err.Code, p.err.Detail, p.purgedTo = body.Code, body.Detail, body.PurgedTo
	}
	return p
}
