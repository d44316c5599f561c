// Package runsearch looks for texts and for values of metadata.
package runsearch

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
	"strings"
)

// MaxPath is the maximum length of a path, in bytes. For longer ones, Scalars
// yields a path that no query has.
const MaxPath = 200

// Fold returns a text in the form in which Contains compares.
func Fold(text string) string { return strings.ToLower(text) }

// Contains reports whether text contains a folded text, in either case of letters.
func Contains(text, folded string) bool { return strings.Contains(strings.ToLower(text), folded) }

// MayContain reports whether a value of a JSON text may contain a folded text. It is false
// for most texts that have none, and costs less than Scalars.
func MayContain(raw []byte, folded string) bool {
	return len(raw) > 0 && (bytes.IndexByte(raw, '\\') >= 0 || Contains(string(raw), folded))
}

// Scalars yields the strings, numbers, booleans and nulls of a JSON text, each with its
// path: the keys and, in arrays, the indexes from 0 that lead to it, joined by dots. Strings are
// decoded; the others are as they are written. It stops at a syntax error.
func Scalars(raw []byte) iter.Seq2[string, string] {
	return func(yield func(path, value string) bool) {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		walk(d, "", yield)
	}
}

// walk yields the scalars of the next value. It reports whether to continue.
func walk(d *json.Decoder, path string, yield func(path, value string) bool) bool {
	token, err := d.Token()
	if err != nil {
		return false
	}
	switch v := token.(type) {
	case json.Delim:
		for i := 0; d.More(); i++ {
			name := strconv.Itoa(i)
			if v == '{' {
				key, err := d.Token()
				if err != nil {
					return false
				}
				name, _ = key.(string)
			}
			if !walk(d, join(path, name), yield) {
				return false
			}
		}
		_, err = d.Token() // the end
		return err == nil
	case string:
		return yield(path, v)
	case json.Number:
		return yield(path, v.String())
	case bool:
		return yield(path, strconv.FormatBool(v))
	}
	return yield(path, "null")
}

// cut is the path of all values that are too deep to have one. No query has it.
const cut = "\x00"

func join(path, name string) string {
	switch {
	case path == cut || len(path)+1+len(name) > MaxPath:
		return cut
	case path == "":
		return name
	}
	return path + "." + name
}
