package mcptools

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strconv"
	"sync"
	"time"
)

// filter is between a server and the SDK, which ends a session at the first
// message that it cannot decode, and queues notifications without a bound. The
// filter delivers only messages that the SDK can use, in a form that it can decode.
// It is safe for concurrent use.
type filter struct {
	notes *notes

	mu     sync.Mutex
	second time.Time // the start of the interval in which asked counts
	asked  int       // requests of the server
}

// maxAsked bounds the requests of a server that the SDK answers, per second. A
// client without capabilities gets no requests but pings.
const maxAsked = 100

// message is a JSON-RPC message whose members are not decoded yet.
type message map[string]json.RawMessage

// parse returns the messages of data: one, or those of a batch. If data is not
// JSON-RPC, there are none.
func parse(data []byte) []message {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || (data[0] != '{' && data[0] != '[') {
		return nil
	}
	if data[0] == '{' {
		var one message
		if json.Unmarshal(data, &one) != nil || !one.isRPC() {
			return nil
		}
		return []message{one}
	}
	var batch []message
	if json.Unmarshal(data, &batch) != nil || len(batch) == 0 {
		return nil
	}
	for _, one := range batch {
		if !one.isRPC() {
			return nil
		}
	}
	return batch
}

// isRPC reports whether a JSON object is a message. Some servers leave the version
// out. A log line in JSON has none of these members.
func (m message) isRPC() bool {
	if method, ok := m["method"]; ok {
		return isString(method)
	}
	return m["id"] != nil && (m["result"] != nil || isObject(m["error"]))
}

// pass returns the message as the SDK gets it, or nil to skip it.
func (f *filter) pass(m message) []byte {
	if method, ok := m["method"]; ok {
		return f.passRequest(m, text(method))
	}
	id := normalID(m["id"])
	if id == nil {
		f.notes.skipped("response without an id", 0)
		return nil
	}
	m["id"] = id
	if isObject(m["error"]) {
		delete(m, "result")
		m["error"] = normalError(m["error"])
	} else {
		delete(m, "error")
		m["result"] = f.normalResult(m["result"])
	}
	return m.encode()
}

// passRequest drops what a client without capabilities has no use for. In
// particular, it drops progress and log notifications, because the SDK queues them
// faster than it handles them.
func (f *filter) passRequest(m message, method string) []byte {
	if id, ok := m["id"]; ok && string(id) != "null" {
		if !f.mayAsk() {
			f.notes.skipped("too many requests by the server", 0)
			return nil
		}
		return m.encode()
	}
	switch method {
	case "notifications/tools/list_changed":
		f.notes.once(slog.LevelInfo, "MCP tool list changed", "the server notified the client; tools stay as Connect read them")
	case "notifications/cancelled":
		return m.encode()
	}
	return nil
}

func (f *filter) mayAsk() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.second) >= time.Second {
		f.second, f.asked = now, 0
	}
	f.asked++
	return f.asked <= maxAsked
}

func (m message) encode() []byte {
	m["jsonrpc"] = json.RawMessage(`"2.0"`)
	return encode(m)
}

// normalID returns the id of a response. Ours are integers, which some servers
// return as strings.
func normalID(raw json.RawMessage) json.RawMessage {
	if isString(raw) {
		if n, err := strconv.ParseInt(text(raw), 10, 64); err == nil {
			return encode(n)
		}
		return raw
	}
	var n json.Number
	if json.Unmarshal(raw, &n) != nil || n == "" {
		return nil
	}
	return raw
}

// normalError returns the error of a response with a code and a message.
func normalError(raw json.RawMessage) json.RawMessage {
	var fields message
	_ = json.Unmarshal(raw, &fields)
	var code int64
	if json.Unmarshal(fields["code"], &code) != nil {
		code = internalError
	}
	made := map[string]any{"code": code, "message": text(fields["message"])}
	if made["message"] == "" {
		made["message"] = "error without a message"
	}
	if fields["data"] != nil {
		made["data"] = fields["data"]
	}
	return encode(made)
}

const internalError = -32603

// failure is a response that the server should have sent.
func failure(id json.RawMessage, reason string) []byte {
	return message{"id": id, "error": encode(map[string]any{"code": internalError, "message": reason})}.encode()
}

// idOf finds the id of a message of which only the beginning is known.
func idOf(beginning []byte) json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(beginning))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil
	}
	for {
		name, err := decoder.Token()
		if err != nil {
			return nil
		}
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			return nil
		}
		if name == "id" {
			return normalID(value)
		}
	}
}

func isString(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '"' }
func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// text decodes a JSON string. Any other value is "".
func text(raw json.RawMessage) (s string) {
	if isString(raw) {
		_ = json.Unmarshal(raw, &s)
	}
	return s
}

// encode marshals a value that is known to marshal, without escapes for HTML.
func encode(v any) json.RawMessage {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
