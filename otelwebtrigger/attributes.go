package otelwebtrigger

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"

	"github.com/webtrigger-go/webtrigger"
)

// The attributes for which there is no convention.
const (
	runIDKey         = attribute.Key("webtrigger.run.id")
	runKeyKey        = attribute.Key("webtrigger.run.key")
	runStatusKey     = attribute.Key("webtrigger.run.status")
	attemptKey       = attribute.Key("webtrigger.run.attempt")
	replayedKey      = attribute.Key("webtrigger.trigger.replayed")
	deliveryIDKey    = attribute.Key("webtrigger.callback.delivery_id")
	callbackStateKey = attribute.Key("webtrigger.callback.state")
)

// errorOther is the error.type of an error that has no other value.
const errorOther = "_OTHER"

// identity returns the attributes that identify a run. They are ids only. The
// assistant's id is the host's own name of an agent.
func identity(run webtrigger.Run) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.GenAIAgentID(run.AssistantID),
		conversation(run),
		runIDKey.Int64(run.ID),
		runKeyKey.String(run.Key),
	}
}

func seconds(d time.Duration) float64 { return max(d, 0).Seconds() }
