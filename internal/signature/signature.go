// Package signature is the symmetric scheme of Standard Webhooks (https://www.standardwebhooks.com, version 1 of the
// signatures): what a secret looks like and what it signs. The sender and the receivers' client share it; that it is the
// scheme which others speak is tested against their libraries, in e2e/standardwebhooks.
package signature

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

// The headers of a signed POST, in the spelling of the standard.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

const (
	prefix  = "whsec_"
	version = "v1,"

	// The standard's bounds of a key, in bytes, and what NewKey makes.
	minKey, maxKey, newKey = 24, 64, 32
)

// ErrSecret describes a valid secret. It contains no part of the rejected one.
var ErrSecret = errors.New("a signing secret is whsec_ followed by the base64 of 24 to 64 bytes")

// ParseSecret returns the key in a secret.
func ParseSecret(secret string) ([]byte, error) {
	text, found := strings.CutPrefix(secret, prefix)
	if !found || strings.ContainsAny(text, "\r\n") { // which encoding/base64 would skip
		return nil, ErrSecret
	}
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(key) < minKey || len(key) > maxKey {
		return nil, ErrSecret
	}
	return key, nil
}

// FormatSecret is the secret that has this key.
func FormatSecret(key []byte) string { return prefix + base64.StdEncoding.EncodeToString(key) }

// NewKey draws a key.
func NewKey() []byte {
	key := make([]byte, newKey)
	_, _ = rand.Read(key) // never fails
	return key
}

// Sign is one signature of a message: its id, the Unix time of its attempt, its body.
func Sign(key []byte, id string, unix int64, body []byte) string {
	return version + base64.StdEncoding.EncodeToString(sum(key, id, unix, body))
}

// Verify reports whether header, the value of HeaderSignature, has a signature by key among those in it. Signatures of
// other versions and malformed ones are passed over.
func Verify(key []byte, header, id string, unix int64, body []byte) bool {
	want := sum(key, id, unix, body)
	for signature := range strings.SplitSeq(header, " ") {
		text, found := strings.CutPrefix(signature, version)
		if !found {
			continue
		}
		got, err := base64.StdEncoding.DecodeString(text)
		if err == nil && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}

func sum(key []byte, id string, unix int64, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id + "." + strconv.FormatInt(unix, 10) + "."))
	h.Write(body)
	return h.Sum(nil)
}
