module github.com/webtrigger-go/webtrigger/e2e/streams

go 1.26.0

replace github.com/webtrigger-go/webtrigger => ../..

require (
	github.com/r3labs/sse/v2 v2.10.0
	github.com/stretchr/testify v1.12.1
	github.com/tmaxmax/go-sse v0.12.0
	github.com/webtrigger-go/webtrigger v0.0.0-00010101000000-000000000000
	gopkg.in/cenkalti/backoff.v1 v1.1.0
)

require (
	code.dny.dev/ssrf v0.3.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.0.0-20191116160921-f9c825593386 // indirect
)
