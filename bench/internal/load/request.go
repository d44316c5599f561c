package load

import (
	"fmt"
	"net/http"
)

// Request writes a request as bytes, ready to be sent on a kept connection.
func Request(method, path, bearer string, body []byte) []byte {
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: bench.example\r\n", method, path)
	if bearer != "" {
		head += "Authorization: Bearer " + bearer + "\r\n"
	}
	if method != http.MethodGet {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return append([]byte(head+"\r\n"), body...)
}
