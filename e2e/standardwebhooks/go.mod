module github.com/webtrigger-go/webtrigger/e2e/standardwebhooks

go 1.26.0

replace github.com/webtrigger-go/webtrigger => ../..

require (
	github.com/standard-webhooks/standard-webhooks/libraries v0.0.1
	github.com/stretchr/testify v1.12.1
	github.com/webtrigger-go/webtrigger v0.0.0
)

require (
	code.dny.dev/ssrf v0.3.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
