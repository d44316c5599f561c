package llm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/webtrigger-go/webtrigger/llm"
)

// NewTool derives the schema of the arguments from a Go type.
func ExampleNewTool() {
	type arguments struct {
		City string `json:"city" jsonschema:"the name of the city"`
	}
	weather, err := llm.NewTool("weather", "Returns the weather of a city.", func(_ context.Context, a arguments) (string, error) {
		return "sunny in " + a.City, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(weather.Name, llm.CheckTool(weather))
	// Output: weather <nil>
}

// CompileSchema is for Options.CompileSchema: it checks the JSON results of runs.
func ExampleCompileSchema() {
	check, err := llm.CompileSchema(json.RawMessage(`{"type": "object", "required": ["urgency"]}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(check(json.RawMessage(`{"urgency": 4}`)))
	fmt.Println(check(json.RawMessage(`{}`)) != nil)
	// Output:
	// <nil>
	// true
}
