package egress_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// liar is a DNS server over UDP and TCP with any answers that a test needs: another one to each question, late ones, forged
// ones, huge ones. Every record has TTL 0.
type liar struct {
	udp net.PacketConn
	tcp net.Listener
	say func(q question) lie

	mu        sync.Mutex
	questions []string // "A hooks.example.com." of UDP, "A/tcp …" of TCP
}

// question is one that was asked; nth counts those of its name and kind from 0.
type question struct {
	kind, name string // A or AAAA
	nth        int
	tcp        bool
}

// lie is an answer.
type lie struct {
	names   []string      // a chain of CNAMEs from the name to the last of these
	addrs   string        // the addresses of the last name; those of the other family are omitted unless raw
	raw     bool          // addresses of the wrong family are packed into the record all the same
	silent  bool          // no answer at all
	late    time.Duration // before the answer
	code    uint16        // of the response: 2 is a server failure, 3 no such name
	another string        // the question that the answer repeats in place of the one asked
	wrongID bool          // the answer to another client's question comes first, with bad news
}

func newLiar(t testing.TB, say func(q question) lie) *liar {
	t.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	l := &liar{udp: udp, tcp: tcp, say: say}
	var wg sync.WaitGroup
	wg.Go(func() { l.serveUDP(&wg) })
	wg.Go(func() { l.serveTCP(&wg) })
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		wg.Wait()
	})
	return l
}

func (l *liar) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		if network[:3] == "tcp" {
			return new(net.Dialer).DialContext(ctx, "tcp4", l.tcp.Addr().String())
		}
		return new(net.Dialer).DialContext(ctx, "udp4", l.udp.LocalAddr().String())
	}}
}

func (l *liar) asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.questions)
}

func (l *liar) serveUDP(wg *sync.WaitGroup) {
	for {
		buf := make([]byte, 1500)
		n, from, err := l.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		wg.Go(func() {
			for _, reply := range l.replies(buf[:n], false) {
				if len(reply) > 1232 { // too much for UDP: nothing but the question, and the word that it was cut (TC)
					reply = reply[:questionEnd(reply)]
					reply[2] |= 2
					binary.BigEndian.PutUint64(reply[4:], 1<<48)
				}
				_, _ = l.udp.WriteTo(reply, from)
			}
		})
	}
}

func (l *liar) serveTCP(wg *sync.WaitGroup) {
	for {
		conn, err := l.tcp.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			var size [2]byte
			for {
				if _, err := io.ReadFull(conn, size[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(conn, query); err != nil {
					return
				}
				for _, reply := range l.replies(query, true) {
					_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
				}
			}
		})
	}
}

// questionEnd is where the question of a message ends.
func questionEnd(message []byte) int {
	end := 12
	for message[end] != 0 {
		end += 1 + int(message[end])
	}
	return end + 5
}

func (l *liar) replies(query []byte, tcp bool) [][]byte {
	end := questionEnd(query)
	q := question{kind: map[uint16]string{1: "A", 28: "AAAA"}[binary.BigEndian.Uint16(query[end-4:])], tcp: tcp}
	for at := 12; query[at] != 0; at += 1 + int(query[at]) {
		q.name += string(query[at+1:at+1+int(query[at])]) + "."
	}
	word := q.kind + " " + q.name
	if tcp {
		word = q.kind + "/tcp " + q.name
	}
	l.mu.Lock()
	for _, asked := range l.questions {
		if asked == word {
			q.nth++
		}
	}
	l.questions = append(l.questions, word)
	l.mu.Unlock()

	answer := l.say(q)
	if answer.silent {
		return nil
	}
	<-time.After(answer.late)
	reply := answer.pack(query[:2], q)
	if !answer.wrongID {
		return [][]byte{reply}
	}
	forged := lie{addrs: "127.0.0.1 ::1"}.pack([]byte{query[0] + 1, query[1]}, q)
	return [][]byte{forged, reply}
}

func (a lie) pack(id []byte, q question) []byte {
	kind := map[string]uint16{"A": 1, "AAAA": 28}[q.kind]
	out := binary.BigEndian.AppendUint16(slices.Clone(id), 0x8180|a.code)
	name := q.name
	asked := name
	if a.another != "" {
		asked = a.another
	}
	var records []byte
	count := 0
	for _, next := range a.names {
		target := packName(next)
		records = append(records, packRecord(name, 5, target)...)
		name = next
		count++
	}
	for text := range strings.FieldsSeq(a.addrs) {
		addr := netip.MustParseAddr(text)
		if addr.Is4() != (q.kind == "A") && !a.raw {
			continue
		}
		records = append(records, packRecord(name, kind, addr.AsSlice())...)
		count++
	}
	for _, n := range []int{1, count, 0, 0} {
		out = binary.BigEndian.AppendUint16(out, uint16(n))
	}
	out = append(out, packName(asked)...)
	out = binary.BigEndian.AppendUint16(out, kind)
	out = append(out, 0, 1)
	return append(out, records...)
}

func packName(name string) []byte {
	var out []byte
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		out = append(append(out, byte(len(label))), label...)
	}
	return append(out, 0)
}

func packRecord(name string, kind uint16, data []byte) []byte {
	out := binary.BigEndian.AppendUint16(packName(name), kind)
	out = append(out, 0, 1, 0, 0, 0, 0) // IN, TTL 0
	out = binary.BigEndian.AppendUint16(out, uint16(len(data)))
	return append(out, data...)
}

// tap records the dialed addresses and opens no connection.
type tap struct {
	mu      sync.Mutex
	dialled []string
}

func (d *tap) dial(_ context.Context, _, address string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dialled = append(d.dialled, address)
	return nil, errors.New("tapped")
}

const (
	public4  = "93.184.216.34"
	other4   = "8.8.8.8"
	public6  = "2606:4700:4700::1111"
	private4 = "10.11.12.13"
	private6 = "fd12:3456::1"
)

// thousand is an answer of a thousand addresses, the one at the place another than the rest.
func thousand(odd string, place int) string {
	addrs := make([]string, 1000)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{93, 184, byte(i >> 8), byte(i)}).String()
	}
	addrs[place] = odd
	return strings.Join(addrs, " ")
}

func TestLyingNameServer(t *testing.T) {
	t.Parallel()
	always := func(addrs string) func(question) lie { return func(question) lie { return lie{addrs: addrs} } }
	for name, c := range map[string]struct {
		say     func(q question) lie
		accept  string // the rule at accept; "": accepted
		deliver string // the class at delivery; if blocked, a colon and the rule follow
		dialled string // what is dialled, in any order
		tcp     bool   // questions come over TCP as well
	}{
		"honest": {say: always(public4 + " " + public6), deliver: "connect", dialled: "93.184.216.34:443 [2606:4700:4700::1111]:443"},
		"public at accept, private at delivery": {say: func(q question) lie {
			if q.nth == 0 {
				return lie{addrs: public4 + " " + public6}
			}
			return lie{addrs: private4 + " " + private6}
		}, deliver: "blocked:special"},
		"private at accept, public at delivery": {say: func(q question) lie {
			if q.nth == 0 {
				return lie{addrs: private4}
			}
			return lie{addrs: public4}
		}, accept: "special", deliver: "connect", dialled: "93.184.216.34:443"},
		"public once per delivery, then private": {say: func(q question) lie {
			if q.nth <= 1 {
				return lie{addrs: public4}
			}
			return lie{addrs: private4}
		}, deliver: "connect", dialled: "93.184.216.34:443"},
		"metadata at delivery": {say: func(q question) lie {
			if q.nth == 0 {
				return lie{addrs: public4}
			}
			return lie{addrs: public4 + " 169.254.169.254"}
		}, deliver: "blocked:metadata"},
		"mixed families": {say: always(public4 + " " + private6), accept: "special", deliver: "blocked:special"},
		"mixed, v6 bad":  {say: always(public4 + " ::1"), accept: "special", deliver: "blocked:special"},
		"mixed, v4 bad":  {say: always(public6 + " 127.0.0.1"), accept: "special", deliver: "blocked:special"},
		"one of many":    {say: always(public4 + " " + other4 + " 1.1.1.1 " + private4), accept: "special", deliver: "blocked:special"},
		"mapped":         {say: always(public4 + " ::ffff:127.0.0.1"), accept: "embedded", deliver: "blocked:embedded"},
		"mapped, public": {say: always("::ffff:8.8.8.8"), accept: "embedded", deliver: "blocked:embedded"},
		"NAT64":          {say: always("64:ff9b::7f00:1"), accept: "embedded", deliver: "blocked:embedded"},
		"late and bad AAAA": {say: func(q question) lie {
			if q.kind == "AAAA" {
				return lie{addrs: private6, late: time.Second}
			}
			return lie{addrs: public4}
		}, accept: "special", deliver: "blocked:special"},
		"late and bad A": {say: func(q question) lie {
			if q.kind == "A" {
				return lie{addrs: private4, late: time.Second}
			}
			return lie{addrs: public6}
		}, accept: "special", deliver: "blocked:special"},
		"AAAA later than accept waits": {say: func(q question) lie {
			if q.kind == "AAAA" {
				return lie{addrs: private6, late: 3 * time.Second}
			}
			return lie{addrs: public4}
		}, deliver: "blocked:special"},
		"no AAAA, the name does not exist": {say: func(q question) lie {
			if q.kind == "AAAA" {
				return lie{code: 3}
			}
			return lie{addrs: public4}
		}, deliver: "connect", dialled: "93.184.216.34:443"},
		"chain to public": {say: func(question) lie {
			return lie{names: []string{"a.example.net.", "b.example.org.", "c.internal."}, addrs: public4}
		}, deliver: "connect", dialled: "93.184.216.34:443"},
		"chain to private": {say: func(question) lie {
			return lie{names: []string{"a.example.net.", "b.example.org."}, addrs: private4}
		}, accept: "special", deliver: "blocked:special"},
		"chain that changes": {say: func(q question) lie {
			if q.nth == 0 {
				return lie{names: []string{"a.example.net."}, addrs: public4}
			}
			return lie{names: []string{"a.example.net."}, addrs: "127.0.0.1"}
		}, deliver: "blocked:special"},
		"chain of sixteen to private": {say: func(question) lie {
			names := make([]string, 16)
			for i := range names {
				names[i] = string(rune('a'+i)) + ".example.net."
			}
			return lie{names: names, addrs: "192.168.1.1"}
		}, accept: "special", deliver: "blocked:special"},
		"chain to localhost without an address": {say: func(question) lie { return lie{names: []string{"localhost."}} }, deliver: "dns"},
		"chain in a circle": {say: func(question) lie {
			return lie{names: []string{"a.example.net.", "hooks.example.com.", "a.example.net."}}
		}, deliver: "dns"},
		"a thousand public":             {say: always(thousand("93.184.200.1", 500)), deliver: "connect", dialled: "two of a thousand", tcp: true},
		"a thousand, the first private": {say: always(thousand(private4, 0)), accept: "special", deliver: "blocked:special", tcp: true},
		"a thousand, the last private":  {say: always(thousand(private4, 999)), accept: "special", deliver: "blocked:special", tcp: true},
		"a thousand, metadata among them": {say: always(thousand("169.254.169.254", 700)),
			accept: "metadata", deliver: "blocked:metadata", tcp: true},
		"honest by UDP, private by TCP": {say: func(q question) lie {
			if q.tcp {
				return lie{addrs: private4}
			}
			return lie{addrs: thousand("93.184.200.1", 0)}
		}, accept: "special", deliver: "blocked:special", tcp: true},
		"IPv6 bytes in an A record":    {say: func(question) lie { return lie{addrs: "::1", raw: true} }, accept: "-", deliver: "-"},
		"IPv4 bytes in an AAAA record": {say: func(question) lie { return lie{addrs: "127.0.0.1", raw: true} }, accept: "-", deliver: "-"},
		"nothing":                      {say: always(""), deliver: "dns"},
		"no such name":                 {say: func(question) lie { return lie{code: 3} }, deliver: "dns"},
		"server failure":               {say: func(question) lie { return lie{code: 2} }, deliver: "dns"},
		"an answer to another question": {say: func(question) lie {
			return lie{addrs: "127.0.0.1 ::1", another: "other.example.com."}
		}, deliver: "-"},
		"another client's answer comes first": {say: func(question) lie { return lie{addrs: public4, wrongID: true} },
			deliver: "connect", dialled: "93.184.216.34:443"},
		"silence": {say: func(question) lie { return lie{silent: true} }, deliver: "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, d := newLiar(t, c.say), new(tap)
			g := newGuard(t, egress.Policy{Resolver: l.resolver(), Dial: d.dial})
			target := parse(t, g, "https://hooks.example.com/")

			err := g.CheckTarget(t.Context(), target)
			if c.accept != "-" {
				require.Equal(t, c.accept, rule(t, err), "at accept")
			}
			before := len(l.asked())
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			_, err = g.Connect(ctx, target)
			require.Error(t, err)
			class := egress.Class(err)
			if class == egress.ClassBlocked {
				class += ":" + rule(t, err)
			}
			if c.deliver != "-" {
				require.Equal(t, c.deliver, class, "at delivery: %v", err)
			}

			if c.dialled == "two of a thousand" {
				require.Len(t, d.dialled, 2)
				for _, address := range d.dialled {
					require.True(t, strings.HasPrefix(address, "93.184."), address)
				}
			} else {
				require.ElementsMatch(t, strings.Fields(c.dialled), d.dialled)
			}
			if class == "connect" || strings.HasPrefix(class, "blocked") {
				want := []string{"A hooks.example.com.", "AAAA hooks.example.com."}
				if c.tcp {
					want = append(want, "A/tcp hooks.example.com.")
				}
				require.ElementsMatch(t, want, l.asked()[before:], "one question of each kind")
			}
		})
	}
}
