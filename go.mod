module github.com/webtrigger-go/webtrigger

go 1.26

require (
	code.dny.dev/ssrf v0.3.0
	github.com/google/uuid v1.6.0
)

require (
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/google/jsonschema-go v0.4.3 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	pgregory.net/rapid v1.3.0 // indirect
)
