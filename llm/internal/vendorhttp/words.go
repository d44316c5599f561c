package vendorhttp

import (
	"net/http"
	"slices"
	"strings"
)

// wordStatus is the HTTP status of an error that a vendor names by a word, 0 if the
// word is not known. slip is true for errors that another answer may avoid. Vendors
// differ in spelling (BadRequestError, invalid_request_error, INVALID_ARGUMENT), so
// only the letters of a word count.
func wordStatus(word string) (status int, slip bool) {
	word = word[strings.LastIndexByte(word, '.')+1:] // litellm.BadRequestError
	word = letters(word)
	if word == "toolusefailed" || word == "outputparsefailed" {
		return http.StatusBadGateway, true
	}
	for _, suffix := range []string{"error", "exception"} {
		if rest := strings.TrimSuffix(word, suffix); rest != "" {
			word = rest
		}
	}
	for _, s := range words {
		if slices.Contains(s.whole, word) {
			return s.status, false
		}
	}
	for _, s := range words {
		if slices.ContainsFunc(s.parts, func(part string) bool { return strings.Contains(word, part) }) {
			return s.status, false
		}
	}
	return 0, false
}

// statusOverloaded is not registered. Anthropic answers with it under high load.
const statusOverloaded = 529

// words is tried from top to bottom: first the whole words of all rows, then their
// parts.
var words = []struct {
	status int
	whole  []string
	parts  []string
}{
	{http.StatusPaymentRequired, []string{"billing", "paymentrequired"},
		[]string{"insufficientquota", "currentquota", "billinghardlimit", "billingnotactive", "insufficientcredit", "insufficientbalance",
			"insufficientfund", "creditbalance"}},
	{http.StatusTooManyRequests, []string{"resourceexhausted", "toomanyrequests"}, []string{"ratelimit", "throttl", "quota"}},
	{http.StatusBadRequest, []string{"badrequest", "failedprecondition", "outofrange", "value", "validation", "type"},
		[]string{"contextlength", "contextwindow", "contextsize", "contextoverflow", "toolong", "toomanytokens", "contentpolicy",
			"contentfilter", "unsupported", "abovemax", "belowmin", "missingrequired"}},
	{http.StatusUnauthorized, []string{"authentication", "unauthorized", "unauthenticated"}, []string{"apikey"}},
	{http.StatusForbidden, []string{"permission", "forbidden", "moderation"}, []string{"permissiondenied", "accessdenied"}},
	{http.StatusNotFound, nil, []string{"notfound", "doesnotexist", "nosuchmodel"}},
	{http.StatusRequestEntityTooLarge, nil, []string{"toolarge"}},
	{http.StatusUnprocessableEntity, nil, []string{"unprocessable"}},
	{http.StatusBadRequest, nil, []string{"invalid"}},
	{http.StatusRequestTimeout, []string{"requesttimeout"}, nil},
	{http.StatusConflict, []string{"conflict", "aborted", "cancelled", "canceled"}, nil},
	{statusOverloaded, nil, []string{"overload"}},
	{http.StatusGatewayTimeout, []string{"timeout", "deadlineexceeded"}, []string{"timeout"}},
	{http.StatusServiceUnavailable, []string{"apiconnection"}, []string{"unavailable"}},
	{http.StatusNotImplemented, []string{"unimplemented", "notimplemented"}, nil},
	{http.StatusInternalServerError, []string{"server", "api", "internal", "internalserver", "unknown"}, nil},
}
