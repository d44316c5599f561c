package pgtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
)

// messageReader splits what a client sends to PostgreSQL into messages.
type messageReader struct {
	from     net.Conn
	buffered *bufio.Reader
	started  bool
	prepared map[string]string // name: text
}

const protocol3 = 3 << 16 // a startup message that is not a request for encryption or cancellation

// next returns the messages that a driver sends with one write: one, or those of a
// statement up to the Sync that ends it. It also returns the texts that they have the
// server parse or execute. A network loses all of them or none: a server that has
// executed a statement, and whose Sync is lost, would keep its locks.
func (m *messageReader) next() (messages []byte, statements string, err error) {
	for {
		message, statement, err := m.one()
		if err != nil {
			return nil, "", err
		}
		messages, statements = append(messages, message...), statements+statement
		switch message[0] {
		case 'P', 'B', 'D', 'E', 'C': // parse, bind, describe, execute, close
		default: // also a message without a type, which begins with its length, below 2^24
			return messages, statements, nil
		}
	}
}

// one returns the next message, and the text of its statement.
func (m *messageReader) one() (message []byte, statement string, err error) {
	if m.buffered == nil {
		m.buffered = bufio.NewReader(m.from)
	}
	head := 4 // the length, which counts itself
	if m.started {
		head++ // a type before it
	}
	message = make([]byte, head)
	if _, err := io.ReadFull(m.buffered, message); err != nil {
		return nil, "", err
	}
	length := binary.BigEndian.Uint32(message[head-4:])
	if length < 4 {
		return nil, "", io.ErrUnexpectedEOF
	}
	body := make([]byte, length-4)
	if _, err := io.ReadFull(m.buffered, body); err != nil {
		return nil, "", err
	}
	if !m.started {
		m.started = len(body) >= 4 && binary.BigEndian.Uint32(body) == protocol3
	} else {
		statement = m.statement(message[0], body)
	}
	return append(message, body...), statement, nil
}

func (m *messageReader) statement(kind byte, body []byte) string {
	first, rest, _ := bytes.Cut(body, []byte{0})
	second, _, _ := bytes.Cut(rest, []byte{0})
	switch kind {
	case 'Q': // query: text
		return string(first)
	case 'P': // parse: name, text
		m.prepared[string(first)] = string(second)
		return string(second)
	case 'B': // bind: portal, name
		return m.prepared[string(second)]
	}
	return ""
}
