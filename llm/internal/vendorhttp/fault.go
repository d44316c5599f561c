package vendorhttp

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
)

// Fault is an error in the vendor's own words.
type Fault struct {
	Type, Code, Param, Message string

	// Status is the HTTP status that belongs to the error, for errors inside a stream.
	// If zero, it is not known. StatusPaymentRequired marks errors that only the owner
	// of the account can resolve, whatever the status of the response: no retry helps.
	Status int

	// Slip reports that the model wrote text that its server could not read: another
	// answer may be good, although the status is that of a bad request.
	Slip bool
}

// fields are the members of a JSON object.
type fields map[string]json.RawMessage

// ReadFault reads an error document, and reports whether it is one. Servers send
// many shapes: an object or a text under error, its fields at the top (vLLM), fields
// named error_type and error_message, a detail (FastAPI), or one of these in a list
// (Gemini).
func ReadFault(document []byte) (Fault, bool) {
	doc, ok := object(document)
	if !ok {
		var list []json.RawMessage
		if bytes.HasPrefix(bytes.TrimSpace(document), []byte("[")) && json.Unmarshal(document, &list) == nil && len(list) > 0 {
			doc, ok = object(list[0])
		}
		if !ok {
			return Fault{}, false
		}
	}
	switch given := doc["error"]; {
	case truthy(given):
		return nested(doc, given), true
	case text(doc["object"]) == "error", text(doc["type"]) == "error",
		text(doc["error_type"]) != "", text(doc["error_message"]) != "", truthy(doc["error_code"]):
		return doc.fault(), true
	case truthy(doc["choices"]) || truthy(doc["content"]) || truthy(doc["delta"]):
		return Fault{}, false
	case truthy(doc["detail"]), truthy(doc["errors"]),
		text(doc["message"]) != "" && (truthy(doc["code"]) || truthy(doc["status"]) || truthy(doc["type"])):
		return doc.fault(), true
	}
	return Fault{}, false
}

// nested is the error under the field error; fields beside it complete it.
func nested(doc fields, given json.RawMessage) Fault {
	inner, ok := object(given)
	if !ok {
		delete(doc, "error")
		f := doc.fault()
		if f.Message == "" {
			f.Message = plain(given)
		} else if text(given) != "" && f.Type == "" {
			f.Type = text(given)
		}
		return f.rated()
	}
	if deeper, ok := object(inner["error"]); ok && !truthy(inner["message"]) {
		inner = deeper
	}
	f := inner.fault()
	if f.Status == 0 {
		f.Status = doc.fault().Status
	}
	return f
}

// fault reads the fields of an error.
func (d fields) fault() (f Fault) {
	for _, name := range []string{"message", "error_message", "msg", "detail", "errors", "description"} {
		if f.Message = plain(d[name]); f.Message != "" {
			break
		}
	}
	if metadata, ok := object(d["metadata"]); ok { // OpenRouter: the words of the provider behind it
		if raw := plain(metadata["raw"]); raw != "" {
			f.Message += ": " + raw
		}
	}
	for _, name := range []string{"type", "error_type"} {
		if f.Type = text(d[name]); f.Type != "" && f.Type != "error" {
			break
		}
	}
	f.Param = text(d["param"])
	for _, name := range []string{"code", "error_code", "status_code", "statusCode", "http_status", "status"} {
		said := plain(d[name])
		if n, err := strconv.Atoi(said); err == nil {
			if f.Status == 0 && n >= 400 && n <= 599 {
				f.Status = n
			}
			said = ""
		}
		if f.Code == "" {
			f.Code = said
		}
	}
	return f.rated()
}

// rated adds the status that the words of an error mean.
func (f Fault) rated() Fault {
	for _, word := range []string{f.Code, f.Type} {
		status, slip := wordStatus(word)
		f.Slip = f.Slip || slip
		if status == 402 || f.Status == 0 { // only a word proves that a payment is missing
			f.Status = max(status, f.Status)
			if status == 402 {
				f.Status = 402
			}
		}
	}
	if f.Status != 0 {
		return f
	}
	if m := statusInText.FindStringSubmatch(f.Message); m != nil {
		f.Status, _ = strconv.Atoi(m[1])
	} else if tooLong.MatchString(f.Message) {
		f.Status = 400
	}
	return f
}

var (
	statusInText = regexp.MustCompile(`(?i)^\s*(?:\[?(?:api ?)?error(?: code)?:?\s*|http(?: error)?:?\s*|status(?: code)?:?\s*)?\[?([45]\d\d)\]?(?:\s*[:\-,.{<]|\s+[A-Z]|\s*$)`)
	tooLong      = regexp.MustCompile(`(?i)too many (?:input )?tokens|context (?:length|window|size)|(?:prompt|input|request) is too (?:long|large)|maximum context`)
)

// object reads a JSON object.
func object(raw json.RawMessage) (o fields, ok bool) {
	return o, json.Unmarshal(raw, &o) == nil && o != nil
}

// text is a JSON string; "" for anything else.
func text(raw json.RawMessage) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// plain returns a JSON string, or the JSON of another value. It returns "" for values
// without content.
func plain(raw json.RawMessage) string {
	if s := text(raw); s != "" || !truthy(raw) {
		return s
	}
	return string(raw)
}

// truthy reports whether a value is neither empty nor false.
func truthy(raw json.RawMessage) bool {
	switch string(bytes.TrimSpace(raw)) {
	case "", "null", "false", `""`, "0", "{}", "[]":
		return false
	}
	return true
}
