package vendorhttp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
)

func TestReadFault_shapesOfServers_giveStatusAndText(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]struct {
		status  int
		message string
	}{
		`{"error":{"message":"m","type":"invalid_request_error","code":"context_length_exceeded"}}`:         {400, "m"},
		`{"error":{"message":"m","type":"BadRequestError","param":null,"code":400}}`:                        {400, "m"},
		`{"error":{"message":"m","type":null,"code":"429"}}`:                                                {429, "m"},
		`{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}`:                                  {400, "m"},
		`{"error":{"message":"m","status":"UNAVAILABLE"}}`:                                                  {503, "m"},
		`[{"error":{"code":401,"message":"m"}}]`:                                                            {401, "m"},
		`{"error":{"error":{"message":"m","type":"authentication_error"}}}`:                                 {401, "m"},
		`{"error":"the prompt has too many tokens"}`:                                                        {400, "the prompt has too many tokens"},
		`{"error":"m","code":503}`:                                                                          {503, "m"},
		`{"error":"Not Found","message":"m","status":404}`:                                                  {404, "m"},
		`{"error":true,"message":"m","code":"rate_limit_exceeded"}`:                                         {429, "m"},
		`{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}`:                 {400, "m"},
		`{"type":"error","error":{"type":"overloaded_error","message":"m"}}`:                                {529, "m"},
		`{"choices":null,"error_type":"BadRequestError","error_message":"400: m"}`:                          {400, "400: m"},
		`{"error_code":503,"error_message":"m"}`:                                                            {503, "m"},
		`{"error":{"message":"Error code: 404 - m"}}`:                                                       {404, "Error code: 404 - m"},
		`{"error":{"message":"litellm.ContextWindowExceededError: m","type":"ContextWindowExceededError"}}`: {400, "litellm.ContextWindowExceededError: m"},
		`{"error":{"message":"m","code":"insufficient_quota","status":429}}`:                                {402, "m"},
		`{"error":{"message":"m","code":500,"type":"exceed_context_size_error"}}`:                           {500, "m"},
		`{"error":{"message":"p","code":502,"metadata":{"raw":"m","provider_name":"x"}}}`:                   {502, "p: m"},
		`{"detail":"m"}`: {0, "m"}, `{"message":"m","code":"model_not_found"}`: {404, "m"},
		`{"error":{"message":"m","code":1301}}`: {0, "m"}, `{"error":{"message":"4000 tokens"}}`: {0, "4000 tokens"},
	} {
		fault, ok := vendorhttp.ReadFault([]byte(document))
		require.True(t, ok, document)
		require.Equal(t, want.status, fault.Status, document)
		require.Equal(t, want.message, fault.Message, document)
	}
	for _, document := range []string{
		`{"choices":[{"delta":{"content":"{\"error\":1}"}}],"error":null}`, `{"error":"","choices":[]}`, `{"error":{}}`, `{"usage":{}}`,
		`{"type":"message_start","message":{"id":"m"}}`, `{"message":"hello"}`, `{`, `7`, `[]`, `["a"]`, ``, `null`, `{"choices":[1],"detail":"x"}`,
	} {
		_, ok := vendorhttp.ReadFault([]byte(document))
		require.False(t, ok, document)
	}
}

func TestReadEnding_wordsOfVendors_haveTheirMeaning(t *testing.T) {
	t.Parallel()
	for ending, words := range map[vendorhttp.Ending][]string{
		vendorhttp.Unsaid:  {"", "null", "None"},
		vendorhttp.Whole:   {"stop", "STOP", "end_turn", "eos", "stop_sequence", "COMPLETE"},
		vendorhttp.Tools:   {"tool_calls", "function_call", "tool_use", "TOOL_CALL"},
		vendorhttp.Length:  {"length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", "model_context_window_exceeded", "ERROR_LIMIT"},
		vendorhttp.Refusal: {"content_filter", "SAFETY", "recitation", "refusal", "BLOCKLIST", "SPII", "guardrail_intervened", "ERROR_TOXIC", "IMAGE_SAFETY"},
		vendorhttp.Broken: {"error", "ERROR", "insufficient_system_resource", "abort", "cancelled", "canceled", "USER_CANCEL", "timeout", "time_out",
			"function_call_filter: MALFORMED_FUNCTION_CALL", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "network_error", "OTHER", "server_error"},
		vendorhttp.Unknown: {"unknown", "FINISH_REASON_UNSPECIFIED", "bored", "<|im_end|>"},
	} {
		for _, word := range words {
			require.Equal(t, ending, vendorhttp.ReadEnding(word), word)
		}
	}
}

func FuzzReadFault(f *testing.F) {
	for _, s := range []string{`{"error":{"message":"m","code":"400"}}`, `[[[{"error":1}]]]`, `{"error_type":7,"error_message":"400: x"}`, `{"detail":[{"msg":"m"}]}`, `{"error":{"error":null}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, document string) {
		fault, ok := vendorhttp.ReadFault([]byte(document))
		if fault.Status != 0 && (fault.Status < 400 || fault.Status > 599) || !ok && fault != (vendorhttp.Fault{}) {
			t.Fatalf("%+v, %v", fault, ok)
		}
	})
}
