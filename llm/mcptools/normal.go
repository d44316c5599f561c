package mcptools

import (
	"encoding/json"
	"fmt"
	"strings"
)

// normalResult returns a result in a form that the SDK can decode: one wrong type
// would otherwise lose the whole list of tools, or the session.
func (f *filter) normalResult(raw json.RawMessage) json.RawMessage {
	var result message
	if !isObject(raw) || json.Unmarshal(raw, &result) != nil {
		return json.RawMessage(`{}`)
	}
	changed := false
	if meta, ok := result["_meta"]; ok && !isObject(meta) {
		delete(result, "_meta")
		changed = true
	}
	if tools, ok := result["tools"]; ok {
		result["tools"] = f.normalTools(tools)
		normalCursor(result)
		changed = true
	} else if isCallResult(result) {
		result["content"] = normalContent(result["content"], result["structuredContent"])
		result["isError"] = encode(strings.Trim(string(result["isError"]), `"`) == "true")
		changed = true
	}
	if !changed {
		return raw
	}
	return encode(result)
}

// isCallResult reports whether a result is that of a call of a tool.
func isCallResult(result message) bool {
	for _, name := range []string{"content", "structuredContent", "isError"} {
		if _, ok := result[name]; ok {
			return true
		}
	}
	return false
}

func normalCursor(result message) {
	cursor, ok := result["nextCursor"]
	switch {
	case !ok || isString(cursor):
	case string(cursor) == "null" || string(cursor) == "false":
		delete(result, "nextCursor")
	default: // such as a number
		result["nextCursor"] = encode(string(cursor))
	}
}

// normalTools keeps the members of tools that this package uses.
func (f *filter) normalTools(raw json.RawMessage) json.RawMessage {
	var tools []json.RawMessage
	_ = json.Unmarshal(raw, &tools)
	kept := []map[string]any{}
	for _, one := range tools {
		var fields message
		_ = json.Unmarshal(one, &fields)
		name := text(fields["name"])
		if name == "" {
			f.notes.skippedTool("", "", errNoName)
			continue
		}
		tool := map[string]any{"name": name, "description": describe(fields)}
		if schema := fields["inputSchema"]; len(schema) > 0 {
			tool["inputSchema"] = schema
		}
		kept = append(kept, tool)
	}
	return encode(kept)
}

// describe returns the text that a model reads about a tool.
func describe(tool message) string {
	var annotations message
	_ = json.Unmarshal(tool["annotations"], &annotations)
	for _, one := range []json.RawMessage{tool["description"], tool["title"], annotations["title"]} {
		if s := text(one); strings.TrimSpace(s) != "" {
			return s
		}
	}
	return ""
}

// normalContent returns content as one list of texts. The SDK rejects a whole
// result that has a type of content which it does not support, so it does not see
// the types. If there is no content, the text is the structured content, as sent.
func normalContent(raw, structured json.RawMessage) json.RawMessage {
	var items []json.RawMessage
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case json.Unmarshal(raw, &items) != nil:
		items = []json.RawMessage{raw}
	}
	texts := []map[string]string{}
	for _, item := range items {
		texts = append(texts, map[string]string{"type": "text", "text": render(item)})
	}
	if len(texts) == 0 && len(structured) > 0 && string(structured) != "null" {
		texts = append(texts, map[string]string{"type": "text", "text": string(structured)})
	}
	return encode(texts)
}

// maxReference bounds the URIs, names and types in the text about an item, in
// bytes.
const maxReference = 2000

// render returns the text that a model reads of an item of content. Binary data is
// described by its type and size.
func render(raw json.RawMessage) string {
	if isString(raw) {
		return text(raw)
	}
	var item message
	if json.Unmarshal(raw, &item) != nil || item == nil {
		return fmt.Sprintf("[content not shown: %d bytes]", len(raw))
	}
	kind := text(item["type"])
	switch kind {
	case "text":
		return text(item["text"])
	case "image", "audio":
		return fmt.Sprintf("[%s not shown: %s]", kind, binary(item, "data"))
	case "resource_link":
		return strings.TrimSpace(fmt.Sprintf("[resource link %s] %s %s",
			reference(item["uri"]), reference(item["name"]), text(item["description"])))
	case "resource":
		return renderResource(item["resource"])
	}
	if s := text(item["text"]); s != "" { // of a later version of the protocol
		return s
	}
	return fmt.Sprintf("[content of type %q not shown: %d bytes]", reference(item["type"]), len(raw))
}

func renderResource(raw json.RawMessage) string {
	var resource message
	_ = json.Unmarshal(raw, &resource)
	uri := reference(resource["uri"])
	if isString(resource["text"]) {
		return strings.TrimSpace(fmt.Sprintf("[resource %s]\n%s", uri, text(resource["text"])))
	}
	return fmt.Sprintf("[%s not shown: %s]", strings.TrimSpace("resource "+uri), binary(resource, "blob"))
}

// binary describes the type and size of base64 data.
func binary(item message, member string) string {
	kind := reference(item["mimeType"])
	if kind == "" {
		kind = "unknown type"
	}
	data := strings.TrimRight(text(item[member]), "=")
	return fmt.Sprintf("%s, %d bytes", kind, len(data)*3/4)
}

// reference returns a short string. A data: URI is cut off before its data.
func reference(raw json.RawMessage) string {
	s := text(raw)
	if before, data, ok := strings.Cut(s, ","); ok && strings.HasPrefix(strings.ToLower(s), "data:") {
		return fmt.Sprintf("%.100s, %d characters not shown", before, len(data))
	}
	if len(s) > maxReference {
		s = strings.ToValidUTF8(s[:maxReference], "") + "…"
	}
	return s
}
