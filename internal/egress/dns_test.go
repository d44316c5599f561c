package egress_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// nameServer is a DNS server on a UDP socket of 127.0.0.1. It answers from a table and remembers the questions. A name
// that is not in the table does not exist; the answer "-" is a server failure.
type nameServer struct {
	conn net.PacketConn

	mu        sync.Mutex
	answers   map[string]string
	questions []string // "A hooks.example.com."
}

func newNameServer(t testing.TB, answers map[string]string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	s := &nameServer{conn: conn, answers: answers}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return s
}

// resolver asks s for everything.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", s.conn.LocalAddr().String())
	}}
}

func (s *nameServer) set(name, addrs string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[name] = addrs
}

func (s *nameServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.questions...)
}

func (s *nameServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply := s.reply(buf[:n]); reply != nil {
			_, _ = s.conn.WriteTo(reply, from)
		}
	}
}

// reply answers a query of one question (RFC 1035 §4.1); additional records of the query are ignored.
func (s *nameServer) reply(query []byte) []byte {
	if len(query) < 12 {
		return nil
	}
	end, name := 12, ""
	for end < len(query) && query[end] != 0 {
		label := int(query[end])
		if end+1+label > len(query) {
			return nil
		}
		name += string(query[end+1:end+1+label]) + "."
		end += 1 + label
	}
	if end += 5; end > len(query) {
		return nil
	}
	kind := binary.BigEndian.Uint16(query[end-4:])

	s.mu.Lock()
	defer s.mu.Unlock()
	word := map[uint16]string{1: "A", 28: "AAAA"}[kind]
	s.questions = append(s.questions, word+" "+name)
	addrs, found := s.answers[name]
	flags := uint16(0x8180)
	switch {
	case addrs == "-":
		flags |= 2 // server failure
	case !found:
		flags |= 3 // no such name
	}
	var records []byte
	count := uint16(0)
	for text := range strings.SplitSeq(addrs, " ") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Is4() != (kind == 1) {
			continue
		}
		records = append(records, 0xc0, 12) // the name of the question
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 0) // IN, TTL 0
		records = binary.BigEndian.AppendUint16(records, uint16(len(a.AsSlice())))
		records = append(records, a.AsSlice()...)
		count++
	}
	out := append([]byte(nil), query[:2]...)
	out = binary.BigEndian.AppendUint16(out, flags)
	for _, n := range []uint16{1, count, 0, 0} {
		out = binary.BigEndian.AppendUint16(out, n)
	}
	out = append(out, query[12:end]...)
	return append(out, records...)
}
