// Package strictjson parses request bodies. It accepts only JSON that every store and every other parser understands in
// the same way, byte for byte as it was sent.
//
// The grammar is exactly RFC 8259: a text is well-formed if encoding/json.Valid accepts it, except that Valid rejects
// more than 10,000 levels. In addition, strictjson applies the rules of I-JSON (RFC 7493) about which parsers differ, and
// rejects values that cannot be stored. There are two classes of fault. If a document has a fault of the first class,
// only that fault is returned:
//
//	*SyntaxError (400)   not RFC 8259; a byte order mark; invalid UTF-8 (RFC 7493 §2.1);
//	                     an escaped surrogate without its pair (§2.1); a key twice in one object (§2.3),
//	                     at any depth and however it is spelled
//	Fault (422)          a NUL character, which can only be written \u0000, in a value or a key;
//	                     nesting deeper than 64; a top level that is not an object; an unknown field ([Unknown])
//
// All faults of the second class are returned in the order of the text, each with the JSON Pointer (RFC 6901) of its
// place. Two rules of I-JSON do not apply: noncharacters such as U+FFFE are allowed, and numbers may have any size and
// precision, because the package does not convert them to floats.
//
// Parsing is iterative and takes linear time and space for any text. The limit is 2 GiB.
package strictjson

import (
	"encoding/json"
	"slices"
)

const (
	maxDepth  = 64  // levels of nesting; the top-level object is level 1
	maxFaults = 100 // more are not useful to a reader
)

// Fault is one fault of a well-formed document, with its place.
type Fault struct {
	Pointer string // as [Pointer] writes it; "" is the whole document
	Detail  string // a sentence part without a full stop, such as "must be a JSON object"
}

// SyntaxError is a document that is not well-formed.
type SyntaxError struct {
	Offset int64  // in bytes, from 0
	Detail string // a sentence that may be shown to the sender; it quotes at most a short key of the document and its place
}

func (e *SyntaxError) Error() string { return "strictjson: " + e.Detail }

// Member is one name/value pair of an object.
type Member struct {
	Key string          // unescaped
	Raw json.RawMessage // the value's own bytes without the white space around them; it aliases the input
}

// Parse parses the JSON document data. It returns the members of the top-level object in their order, and at most 100
// faults of the second class. If the top level is not an object, members is nil and a Fault has the Pointer "". An error
// is always a *SyntaxError; members and faults are then nil.
func Parse(data []byte) (members []Member, faults []Fault, err error) {
	s := scanner{data: data}
	if err := s.scan(); err != nil {
		return nil, nil, err
	}
	return s.members, s.faults, nil
}

// Value checks any JSON value by the rules of [Parse], as if it were the value of a member of a top-level object. It may
// be of any type and nest one level less. Pointers start at the value.
func Value(data []byte) ([]Fault, error) {
	s := scanner{data: data, above: 1}
	if err := s.scan(); err != nil {
		return nil, err
	}
	return s.faults, nil
}

// Members splits an object that Parse has accepted, alone or inside a document, into its members in their order. Of
// anything else it returns nil.
func Members(object json.RawMessage) []Member {
	s := scanner{data: object}
	if s.scan() != nil {
		return nil
	}
	return s.members
}

// Unknown returns a Fault for every member whose key is not allowed: at most 100. Keys are compared exactly, case and
// all.
func Unknown(members []Member, allowed ...string) []Fault {
	var faults []Fault
	for _, m := range members {
		if !slices.Contains(allowed, m.Key) && len(faults) < maxFaults {
			faults = append(faults, Fault{Pointer(m.Key), "is not a known field"})
		}
	}
	return faults
}
