package egress_test

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// TestOracleNearTheEdges compares the guard with the oracle of TestCheckAddrAgainstOracle on many random addresses, most of
// them a few steps from an edge. WEBTRIGGER_ADDRESS_CASES sets how many (default 200,000; make callbacks-long takes 10
// million).
func TestOracleNearTheEdges(t *testing.T) {
	t.Parallel()
	cases := 200_000
	if v := os.Getenv("WEBTRIGGER_ADDRESS_CASES"); v != "" {
		var err error
		cases, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	special, allocated := registries(t)
	blocks := append(slices.Clone(special), allocated...)
	for _, s := range slices.Concat(publicV4, publicV6) {
		blocks = append(blocks, block{prefix: netip.PrefixFrom(netip.AddrFrom16(s.first).Unmap(), 8)})
	}
	g := newGuard(t, egress.Policy{})
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 1))
			accepted := 0
			for range cases / runtime.GOMAXPROCS(0) {
				a := anyAddr(random, blocks)
				got := g.CheckAddr(a) == nil
				if want := oracle(a); got != want {
					t.Errorf("%v: accepted %v, want %v (seed %d)", a, got, want, seed)
					return
				}
				if got {
					accepted++
				}
			}
			share := float64(accepted) / float64(cases/runtime.GOMAXPROCS(0))
			if share < 0.1 || share > 0.9 {
				t.Errorf("%.2f of the cases were accepted: the generator is lopsided", share)
			}
		})
	}
	wg.Wait()
}

// anyAddr is an address near the edge of a block, or anywhere, perhaps one that carries an IPv4 address.
func anyAddr(random *rand.Rand, blocks []block) netip.Addr {
	var v4 [4]byte
	var v6 [16]byte
	switch kind := random.IntN(8); kind {
	case 0:
		for i := range v4 {
			v4[i] = byte(random.Uint32())
		}
		return netip.AddrFrom4(v4)
	case 1:
		for i := range v6 {
			v6[i] = byte(random.Uint32())
		}
		if random.IntN(2) == 0 {
			v6[0] = 0x20 | v6[0]&0x1f
		}
		return netip.AddrFrom16(v6)
	case 2: // an address of some block, in a form that embeds it
		a := anyAddr(random, blocks)
		if !a.Is4() {
			return a
		}
		v4 = a.As4()
		prefix := netip.MustParsePrefix([]string{"::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/96",
			"2a00:1450::5efe:0:0/96", "2600::200:5efe:0:0/96", "2002::/16", "2001::/96", "2a00::/96", "2a00::/48"}[random.IntN(11)])
		v6 = prefix.Addr().As16()
		copy(v6[prefix.Bits()/8:], v4[:])
		return netip.AddrFrom16(v6)
	default: // near an edge, and sometimes inside of the block
		edge := edges(blocks[random.IntN(len(blocks))].prefix)
		a := edge[random.IntN(len(edge))]
		for range random.IntN(4) {
			next := a.Next()
			if random.IntN(2) == 0 {
				next = a.Prev()
			}
			if next.IsValid() {
				a = next
			}
		}
		if kind == 3 && a.Is6() {
			v6 = a.As16()
			for i := 4 + random.IntN(8); i < 16; i++ {
				v6[i] = byte(random.Uint32())
			}
			a = netip.AddrFrom16(v6)
		}
		if a.Is6() && !a.Is4In6() && random.IntN(50) == 0 {
			a = a.WithZone("eth0")
		}
		return a
	}
}
