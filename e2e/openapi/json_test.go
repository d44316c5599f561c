package openapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/webtrigger-go/webtrigger/openapi"
)

var update = flag.Bool("update", false, "write openapi.json and the generated client")

// TestJSON checks that openapi.json has the content of openapi.yaml, in the same order.
func TestJSON(t *testing.T) {
	t.Parallel()
	var root yaml.Node
	require.NoError(t, yaml.Unmarshal(openapi.YAML(), &root))
	var made, want bytes.Buffer
	appendJSON(t, &made, root.Content[0])
	require.NoError(t, json.Indent(&want, made.Bytes(), "", "  "))
	want.WriteByte('\n')
	if *update {
		require.NoError(t, os.WriteFile("../../openapi/openapi.json", want.Bytes(), 0o644))
		return
	}
	require.Equal(t, want.String(), string(openapi.JSON()), "run: go test ./e2e/openapi -run TestJSON -update")
}

// appendJSON writes a YAML node as JSON.
func appendJSON(t *testing.T, b *bytes.Buffer, n *yaml.Node) {
	t.Helper()
	value := func(v any) {
		enc := json.NewEncoder(b)
		enc.SetEscapeHTML(false)
		require.NoError(t, enc.Encode(v))
	}
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			value(n.Content[i].Value)
			b.WriteByte(':')
			appendJSON(t, b, n.Content[i+1])
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			appendJSON(t, b, item)
		}
		b.WriteByte(']')
	default:
		var v any
		require.NoError(t, n.Decode(&v))
		value(v)
	}
}
