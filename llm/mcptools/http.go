package mcptools

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// HTTP is a server that communicates over HTTP (the streamable HTTP transport of
// the protocol).
type HTTP struct {
	URL    string      // absolute, http or https
	Header http.Header // sent with every request, such as Authorization; if nil, there are none

	// Client sends the requests. If nil, it is a client that does not follow redirects
	// and has no time limit other than that of the calls.
	Client *http.Client
}

// maxAnswer bounds one response of a server, in bytes. Tests use a smaller bound.
var maxAnswer = 16 << 20

// Dial returns a transport. It sends nothing.
func (h *HTTP) Dial(context.Context) (sdk.Transport, error) { return h.dial(newNotes(discard)) }

func (h *HTTP) dial(notes *notes) (sdk.Transport, error) {
	u, err := url.Parse(h.URL)
	if err != nil {
		return nil, errors.New("URL is malformed") // it may contain a secret
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("URL must be absolute, with the scheme http or https")
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("server redirects, and redirects are not followed")
	}}
	if h.Client != nil {
		kept := *h.Client
		client = &kept
	}
	client.Transport = &roundTripper{
		next: client.Transport, header: h.Header.Clone(), scheme: u.Scheme, host: u.Host, filter: &filter{notes: notes},
	}
	return &sdk.StreamableClientTransport{
		Endpoint: h.URL, HTTPClient: client,
		MaxEventSize:         -1,   // the filter bounds them
		DisableStandaloneSSE: true, // between calls, nothing is expected
	}, nil
}

// roundTripper adds the headers of the host to the requests to the server, and to
// no others. It delivers only responses that the SDK can decode.
type roundTripper struct {
	next         http.RoundTripper
	header       http.Header
	scheme, host string
	filter       *filter
}

func (t *roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	call := callID(r)
	if r.URL.Scheme == t.scheme && r.URL.Host == t.host && len(t.header) > 0 {
		r = r.Clone(r.Context())
		for name, values := range t.header {
			r.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	response, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode >= 400 && r.Method == http.MethodPost:
		return t.rejected(r, response, call)
	case response.StatusCode < 200 || response.StatusCode >= 300:
		response.Body = &limitedBody{response.Body, int64(maxAnswer)}
	case media == "text/event-stream":
		response.Body = newEvents(response.Body, t.filter, call)
	case call != nil:
		return t.answered(response, call)
	default:
		response.Body = &limitedBody{response.Body, int64(maxAnswer)}
	}
	return response, nil
}

// callID returns the id of the call that a request sends, or nil.
func callID(r *http.Request) json.RawMessage {
	if r.Method != http.MethodPost || r.GetBody == nil {
		return nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil
	}
	defer body.Close()
	data, _ := io.ReadAll(body)
	var one message
	if json.Unmarshal(data, &one) != nil || one["method"] == nil {
		return nil
	}
	return one["id"]
}

// answered replaces the body of a response to a call by one message with the id of
// the call, whatever the server sent. So no call waits for a response that the SDK
// has rejected.
func (t *roundTripper) answered(response *http.Response, call json.RawMessage) (*http.Response, error) {
	data, err := io.ReadAll(io.LimitReader(response.Body, int64(maxAnswer)+1))
	_ = response.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("read response: %w", err)
	}
	answer := failure(call, "response of the server is not a JSON-RPC response")
	if len(data) > maxAnswer {
		answer = failure(call, fmt.Sprintf("response of the server has more than %d bytes", maxAnswer))
	} else if found := t.responseTo(call, data); found != nil {
		answer = found
	} else {
		t.filter.notes.skipped("not a response to the call", len(data))
	}
	return withBody(response, answer), nil
}

// withBody replaces the body of a response by a message.
func withBody(response *http.Response, message []byte) *http.Response {
	response.Header.Set("Content-Type", "application/json")
	response.Header.Del("Content-Length")
	response.ContentLength = int64(len(message))
	response.Body = io.NopCloser(bytes.NewReader(message))
	return response
}

// responseTo finds the response to a call in a body. Text may stand before it.
func (t *roundTripper) responseTo(call json.RawMessage, data []byte) []byte {
	messages := parse(bytes.TrimPrefix(data, byteOrderMark))
	if messages == nil {
		if start := bytes.IndexByte(data, '{'); start >= 0 {
			messages = parse(data[start:])
		}
	}
	for _, one := range messages {
		if one["method"] == nil && bytes.Equal(normalID(one["id"]), call) {
			return t.filter.pass(one)
		}
	}
	return nil
}

// limitedBody is a body that returns an error beyond its limit, not an end.
type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("response of the server has more than %d bytes", maxAnswer)
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
