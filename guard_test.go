package webtrigger_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// suspect is a callback URL and what becomes of it.
type suspect struct {
	url, rule string // "": accepted
	dials     string // accepted: what is dialled at the end
}

// corpora reads the guard's corpora of URLs and addresses, by the ranges that an operator allows. Each address stands for
// two URLs: with the address itself, and with a name that resolves to it.
func corpora(t *testing.T) (suspects map[string][]suspect, names map[string]netip.Addr) {
	suspects, names = make(map[string][]suspect), make(map[string]netip.Addr)
	read := func(file string, add func(policy, subject, rule string)) {
		f, err := os.Open("internal/egress/testdata/" + file)
		require.NoError(t, err)
		defer f.Close()
		policy := "none"
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			switch {
			case len(fields) == 0 || fields[0] == "#" || strings.HasPrefix(fields[0], "#"):
			case fields[0] == "policy":
				policy = fields[1]
			default:
				subject := strings.TrimSpace(strings.Split(lines.Text(), "  ")[0])
				if strings.HasPrefix(subject, `"`) {
					subject, err = strconv.Unquote(subject)
					require.NoError(t, err)
				}
				add(policy, subject, strings.TrimPrefix(fields[len(fields)-1], "-"))
			}
		}
	}
	read("urls.txt", func(policy, url, rule string) {
		s := suspect{url: url, rule: rule}
		if rule == "" {
			target, err := mustGuard(t, policy).ParseURL(url)
			require.NoError(t, err, url)
			s.dials = net.JoinHostPort(target.Host(), strconv.Itoa(int(target.Port())))
			if _, err := netip.ParseAddr(target.Host()); err != nil {
				s.dials = net.JoinHostPort(anybody, strconv.Itoa(int(target.Port())))
			}
			if target.Host() == "localhost" { // the hosts file knows it
				s.dials = net.JoinHostPort("127.0.0.1", strconv.Itoa(int(target.Port())))
			}
		}
		suspects[policy] = append(suspects[policy], s)
	})
	read("addrs.txt", func(policy, text, rule string) {
		a := netip.MustParseAddr(text)
		literal := "https://" + text + ":8443/"
		if a.Is6() {
			literal = "https://[" + strings.Replace(text, "%", "%25", 1) + "]:8443/"
		}
		s := suspect{rule: rule}
		if rule == "" {
			s.dials = netip.AddrPortFrom(a, 8443).String()
		}
		s.url = literal
		suspects[policy] = append(suspects[policy], s)
		if a.Zone() == "" {
			name := fmt.Sprintf("n%d.corpus.example.com", len(names))
			names[name+"."] = a
			s.url = "https://" + name + ":8443/"
			suspects[policy] = append(suspects[policy], s)
		}
	})
	return suspects, names
}

// anybody is where names lead that the corpus says nothing of; the ranges that lines of the corpus allow do not change
// that.
const anybody = "93.184.216.34"

func ranges(t *testing.T, policy string) []netip.Prefix {
	var allow []netip.Prefix
	for text := range strings.SplitSeq(policy, ",") {
		if text != "none" {
			p, err := netip.ParsePrefix(text)
			require.NoError(t, err)
			allow = append(allow, p)
		}
	}
	return allow
}

func mustGuard(t *testing.T, policy string) *egress.Guard {
	guard, err := egress.New(egress.Policy{Allow: ranges(t, policy)})
	require.NoError(t, err)
	return guard
}

// TestGuardCorpus takes every URL and every address of the corpus through the three gates: a trigger, which is refused by
// the same rule with a 422; a delivery of a run whose URL got in some other way, which ends blocked by it; and the dialler,
// which is asked for the accepted ones only.
func TestGuardCorpus(t *testing.T) {
	t.Parallel()
	suspects, names := corpora(t)
	judged := 0
	for policy, list := range suspects {
		judged += len(list)
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			judge(t, policy, list, names)
		})
	}
	require.Greater(t, judged, 1000)
}

func judge(t *testing.T, policy string, list []suspect, names map[string]netip.Addr) {
	var mu sync.Mutex
	dialled := make(map[string]bool)
	b := setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", Workers: -1})
	require.NoError(t, b.svc.SetGuard(egress.Policy{
		Allow: ranges(t, policy), Resolver: stubResolver(t, names),
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dialled[address] = true
			return nil, errors.New("tapped")
		},
	}))
	owed := make(map[int64]suspect)
	for _, s := range list {
		_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "say x", CallbackURL: s.url})
		if s.rule == "" {
			require.NoError(t, err, s.url)
		} else if s.url != "" {
			var refused *webtrigger.RequestError
			require.ErrorAs(t, err, &refused, s.url)
			require.Equal(t, "/callback_url", refused.Faults[0].Pointer)
			require.True(t, strings.HasSuffix(refused.Faults[0].Detail, " ("+s.rule+")"), "%q: %s", s.url, refused.Faults[0].Detail)
		} else {
			continue // from Go, "" is no callback at all
		}
		accepted, err := b.store.CreateTrigger(b.ctx, webtrigger.NewTrigger{
			RunKey: uuid.NewString(), AssistantID: "1", BaseURL: "https://app.example.com", CallbackURL: s.url,
			Input: webtrigger.RunInput{Subject: "s", Message: "m"},
		})
		require.NoError(t, err)
		_, err = b.svc.CancelRun(b.ctx, accepted.Run.ID, "")
		require.NoError(t, err)
		owed[accepted.Run.ID] = s
	}
	require.Empty(t, dialled, "nothing is dialled at accept")
	stop := b.work()
	defer stop()
	for id, s := range owed {
		d := b.delivered(id)
		require.True(t, d.AttemptedAt.IsZero(), "%q was claimed", s.url)
		if s.rule == "" {
			require.Equal(t, webtrigger.FailureConnect, d.FailureClass, "%q: %s", s.url, d.Error)
			continue
		}
		require.Equal(t, webtrigger.DeliveryBlocked, d.State, "%q: %s", s.url, d.Error)
		require.Equal(t, webtrigger.FailureBlocked, d.FailureClass)
		require.True(t, strings.HasSuffix(d.Error, " ("+s.rule+")"), "%q: %s", s.url, d.Error)
	}
	want := make(map[string]bool)
	for _, s := range list {
		if s.rule == "" {
			want[s.dials] = true
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want["127.0.0.1:443"] {
		delete(dialled, "[::1]:443") // and may know it twice
	}
	require.Equal(t, want, dialled, "exactly the accepted are dialled")
}

// stubResolver knows the names of the corpus and sends all others to anybody, over real UDP.
func stubResolver(t *testing.T, names map[string]netip.Addr) *net.Resolver {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(stubAnswer(buf[:n], names), from)
		}
	})
	t.Cleanup(func() {
		conn.Close()
		wg.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

func stubAnswer(query []byte, names map[string]netip.Addr) []byte {
	name, end := "", 12
	for ; query[end] != 0; end += 1 + int(query[end]) {
		name += string(query[end+1:end+1+int(query[end])]) + "."
	}
	end += 5
	addr, found := names[name]
	if !found {
		addr = netip.MustParseAddr(anybody)
	}
	out := append([]byte(nil), query[:2]...)
	out = append(out, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	out = append(out, query[12:end]...)
	if kind := binary.BigEndian.Uint16(query[end-4:]); addr.Is4() == (kind == 1) {
		out[7] = 1
		out = append(out, 0xc0, 12)
		out = binary.BigEndian.AppendUint16(out, kind)
		out = append(out, 0, 1, 0, 0, 0, 0)
		out = binary.BigEndian.AppendUint16(out, uint16(len(addr.AsSlice())))
		out = append(out, addr.AsSlice()...)
	}
	return out
}
