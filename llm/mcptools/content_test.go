package mcptools_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCall_anyContent_returnsUsefulText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, result, want, err string }{
		{"text", `{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`, "a\nb", ""},
		{"image", `{"content":[{"type":"image","data":"AAAA","mimeType":"image/png"}]}`, "[image not shown: image/png, 3 bytes]", ""},
		{"image with invalid base64", `{"content":[{"type":"image","data":"%%","mimeType":"image/png"}]}`, "[image not shown: image/png, 1 bytes]", ""},
		{"audio without a type", `{"content":[{"type":"audio","data":"AAA="}]}`, "[audio not shown: unknown type, 2 bytes]", ""},
		{"resource link", `{"content":[{"type":"resource_link","uri":"file:///a","name":"a","description":"the first","size":"x"}]}`, "[resource link file:///a] a the first", ""},
		{"data in a URI", `{"content":[{"type":"resource_link","uri":"data:image/png;base64,AAAA","name":"a"}]}`, "[resource link data:image/png;base64, 4 characters not shown] a", ""},
		{"embedded text", `{"content":[{"type":"resource","resource":{"uri":"file:///b","text":"inside b"}}]}`, "[resource file:///b]\ninside b", ""},
		{"embedded blob", `{"content":[{"type":"resource","resource":{"uri":"file:///c","mimeType":"application/zip","blob":"AAAAAA=="}}]}`, "[resource file:///c not shown: application/zip, 4 bytes]", ""},
		{"embedded nothing", `{"content":[{"type":"resource"}]}`, "[resource not shown: unknown type, 0 bytes]", ""},
		{"structured only", `{"structuredContent":{"total":3,"id":12345678901234567890}}`, `{"total":3,"id":12345678901234567890}`, ""},
		{"structured beside empty content", `{"content":[],"structuredContent":[1,2]}`, `[1,2]`, ""},
		{"structured beside content", `{"content":[{"type":"text","text":"three"}],"structuredContent":{"total":3}}`, "three", ""},
		{"error with text", `{"isError":true,"content":[{"type":"text","text":"disk full"}]}`, "", "disk full"},
		{"error without text", `{"isError":true,"content":[]}`, "", "tool failed without an error message"},
		{"error with structured content", `{"isError":true,"structuredContent":{"code":7}}`, "", `{"code":7}`},
		{"error flag as text", `{"isError":"true","content":[{"type":"text","text":"disk full"}]}`, "", "disk full"},
		{"empty content", `{"content":[]}`, "[the tool returned no content]", ""},
		{"null content", `{"content":null}`, "[the tool returned no content]", ""},
		{"blank text", `{"content":[{"type":"text","text":" \n"}]}`, "[the tool returned no content]", ""},
		{"no content", `{}`, "[the tool returned no content]", ""},
		{"no result", `null`, "[the tool returned no content]", ""},
		{"content as an object", `{"content":{"type":"text","text":"a"}}`, "a", ""},
		{"content as text", `{"content":"a"}`, "a", ""},
		{"items that are not objects", `{"content":["a",7,null,{"type":"text"}]}`, "a\n[content not shown: 1 bytes]\n[content not shown: 4 bytes]\n", ""},
		{"unknown type", `{"content":[{"type":"hologram","blob":"AAAA"}]}`, `[content of type "hologram" not shown: 33 bytes]`, ""},
		{"unknown type with text", `{"content":[{"type":"markdown","text":"**a**"}]}`, "**a**", ""},
		{"malformed metadata", `{"_meta":7,"content":[{"type":"text","text":"a","annotations":"x"}]}`, "a", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := connect(t, listen(t, rogueHTTP(returns(tt.result))), nil)
			said, err := call(t, server, "echo", `{}`)
			if tt.err != "" {
				require.EqualError(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, said)
		})
	}
}
