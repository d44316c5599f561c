package egress_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
	"github.com/webtrigger-go/webtrigger/internal/needs"
)

// TestGuard_blockedAddress_getsNoPacket observes packets. It runs in its own network namespace, where every route except loopback's
// leads to a tunnel that the test reads. It calls each address of the corpus as a literal and by a name that resolves to
// it. Packets to an accepted address must arrive, and none may leave for a blocked address.
//
// It needs Linux, the ip command, user namespaces and the tunnel device. Without them it is skipped, unless
// WEBTRIGGER_TEST_ALL is set.
func TestGuard_blockedAddress_getsNoPacket(t *testing.T) {
	if os.Getenv("EGRESS_TEST_NAMESPACE") == "1" {
		callEach(t)
		return
	}
	t.Parallel()
	ip, err := exec.LookPath("ip")
	if err != nil {
		needs.Missing(t, "there is no ip command on this machine")
	}
	inside := func(command string, args ...string) *exec.Cmd {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		t.Cleanup(cancel)
		c := exec.CommandContext(ctx, command, args...)
		c.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		return c
	}
	if out, err := inside(ip, "tuntap", "add", "dev", "trap", "mode", "tun").CombinedOutput(); err != nil {
		needs.Missing(t, fmt.Sprintf("there are no namespaces with tunnels on this machine: %v: %s", err, out))
	}
	child := inside(os.Args[0], "-test.run=^TestGuard_blockedAddress_getsNoPacket$", "-test.v")
	child.Env = append(os.Environ(), "EGRESS_TEST_NAMESPACE=1")
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS", "%s", out)
	t.Logf("%s", out)
}

// callEach is the test in the namespace.
func callEach(t *testing.T) {
	trap := openTrap(t)
	var accepted, blocked []netip.Addr
	for _, l := range corpus(t, "testdata/addrs.txt") {
		a := netip.MustParseAddr(l.subject)
		if l.rule == "" {
			accepted = append(accepted, a)
		} else {
			blocked = append(blocked, a)
		}
	}
	special, allocated := registries(t)
	g := newGuard(t, egress.Policy{})
	for _, b := range append(special, allocated...) {
		for _, a := range edges(b.prefix) {
			if oracle(a) {
				accepted = append(accepted, a)
			} else {
				blocked = append(blocked, a)
			}
		}
	}
	require.Greater(t, len(blocked), 250)
	require.Greater(t, len(accepted), 150)

	// The control: a socket without the guard does get its packets into the trap, for accepted and blocked alike.
	seen := trap.during(func() {
		for _, address := range []string{"93.184.216.34:443", "10.1.2.3:443", "169.254.169.254:443", "[2606:4700::1]:443", "[fd00::1]:443",
			"127.0.0.1:443", "[::1]:443"} {
			conn, err := (&net.Dialer{Timeout: 20 * time.Millisecond}).Dial("tcp", address)
			if err == nil {
				conn.Close()
			}
		}
	})
	require.Len(t, seen, 7, "the trap is not where the packets go: %v", seen)

	for _, addrs := range [][]netip.Addr{blocked, accepted} {
		seen := trap.during(func() {
			var wg sync.WaitGroup
			next := make(chan netip.Addr)
			for range 16 {
				wg.Go(func() {
					for a := range next {
						call(t, g, a)
					}
				})
			}
			for _, a := range addrs {
				next <- a
			}
			close(next)
			wg.Wait()
		})
		if &addrs[0] == &blocked[0] {
			require.Empty(t, seen, "packets left for blocked addresses")
			continue
		}
		for _, a := range addrs {
			require.Contains(t, seen, a, "no packet left for an accepted address")
		}
		for a := range seen {
			require.True(t, slices.Contains(addrs, a), "a packet left for %v", a)
		}
	}
}

// call tries to reach an address as a literal and by a name, as a delivery would, with little patience. The socket itself
// is asked as well.
func call(t *testing.T, g *egress.Guard, a netip.Addr) {
	try := func(g *egress.Guard, url string) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		target, err := g.ParseURL(url)
		if err != nil {
			return
		}
		if conn, err := g.Connect(ctx, target); err == nil {
			conn.Close()
			t.Errorf("connected to %v", a)
		}
	}
	if a.Is4() {
		try(g, "https://"+a.String()+"/")
	} else {
		try(g, "https://["+a.String()+"]/")
	}
	if a.Zone() == "" {
		ns := newNameServer(t, map[string]string{hookHost + ".": a.String()})
		try(newGuard(t, egress.Policy{Resolver: ns.resolver()}), "https://"+hookHost+"/")
	}
	if a.Is4In6() {
		return // package net makes the IPv4 address of it, and the socket's hook checks that address
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if conn, err := g.Dial(ctx, "tcp", netip.AddrPortFrom(a, 443).String()); err == nil {
		conn.Close()
		t.Errorf("dialled %v", a)
	}
}

// packetTrap sees every packet of the namespace: those that leave by the tunnel, and those to loopback that are TCP.
type packetTrap struct {
	mu      sync.Mutex
	round   byte
	seen    map[netip.Addr]int
	markers map[netip.Addr]chan struct{} // each is closed when a packet to its address has been read
}

func openTrap(t *testing.T) *packetTrap {
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	var request struct { // struct ifreq
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "trap")
	request.flags = 0x0001 | 0x1000 // IFF_TUN, IFF_NO_PI
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), 0x400454ca /* TUNSETIFF */, uintptr(unsafe.Pointer(&request)))
	require.Zero(t, errno, "%v", errno)
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, {"link", "set", "trap", "up"},
		{"addr", "add", "198.18.0.1/24", "dev", "trap"}, {"route", "add", "default", "dev", "trap"},
		{"-6", "addr", "add", "2001:db8:ffff::1/64", "dev", "trap", "nodad"}, {"-6", "route", "add", "default", "dev", "trap"},
	} {
		out, err := exec.Command("ip", args...).CombinedOutput()
		require.NoError(t, err, "ip %v: %s", args, out)
	}
	trap := &packetTrap{seen: make(map[netip.Addr]int)}
	require.NoError(t, syscall.SetNonblock(fd, true))
	tunnel := os.NewFile(uintptr(fd), "trap")
	loopback := listenLoopback(t)
	var wg sync.WaitGroup
	wg.Go(func() { trap.read(tunnel, 0) })
	wg.Go(func() { trap.read(loopback, 14) }) // after the Ethernet header
	t.Cleanup(func() {
		tunnel.Close()
		loopback.Close()
		wg.Wait()
	})
	return trap
}

// listenLoopback opens a packet socket (AF_PACKET) on the loopback interface.
func listenLoopback(t *testing.T) *os.File {
	const everything = 0x0300 // htons(ETH_P_ALL)
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, everything)
	require.NoError(t, err)
	lo, err := net.InterfaceByName("lo")
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: everything, Ifindex: lo.Index}))
	return os.NewFile(uintptr(fd), "loopback")
}

func (p *packetTrap) read(f *os.File, header int) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return
		}
		if n < header+20 {
			continue
		}
		to, protocol := destination(buf[header:n])
		p.mu.Lock()
		if marked, ok := p.markers[to]; ok {
			close(marked)
			delete(p.markers, to) // the loopback interface shows each packet twice
		} else if protocol == syscall.IPPROTO_TCP { // not name servers on loopback, nor what the kernel sends by itself (router solicitations)
			p.seen[to]++
		}
		p.mu.Unlock()
	}
}

func destination(packet []byte) (to netip.Addr, protocol int) {
	switch {
	case packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[16:20])), int(packet[9])
	case packet[0]>>4 == 6 && len(packet) >= 40:
		return netip.AddrFrom16([16]byte(packet[24:40])), int(packet[6])
	}
	return netip.Addr{}, -1
}

// during returns where TCP packets went while do ran. A packet on each of the two ways ends
// it: then all packets before it have been read.
func (p *packetTrap) during(do func()) map[netip.Addr]int {
	p.mu.Lock()
	p.seen = make(map[netip.Addr]int)
	p.mu.Unlock()
	do()
	p.mu.Lock()
	p.round++
	p.markers = make(map[netip.Addr]chan struct{})
	var marked []chan struct{}
	for _, marker := range []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 0, 100 + p.round}), netip.AddrFrom4([4]byte{127, 0, 0, 100 + p.round})} {
		c := make(chan struct{})
		p.markers[marker], marked = c, append(marked, c)
		conn, err := net.Dial("udp4", netip.AddrPortFrom(marker, 9).String())
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte{1})
	}
	p.mu.Unlock()
	for _, c := range marked {
		<-c
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}
