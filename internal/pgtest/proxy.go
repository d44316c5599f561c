package pgtest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// Proxy is an address of 127.0.0.1 in front of a server. Its connections can be
// disturbed: all of them, or those that carry certain statements. Clients must connect
// without TLS.
type Proxy struct {
	listener net.Listener
	all      sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond // the fault, or a link
	target  int
	fault   *Fault
	closed  bool
	links   map[*link]struct{}
}

// Fault is how a proxy disturbs connections.
type Fault struct {
	// Hold keeps what arrives and delivers it when the fault ends, as a network
	// does that loses packets for a while: also statements that their client no
	// longer waits for. Otherwise the proxy closes connections, and delivers
	// nothing.
	Hold bool

	// Answers delivers what arrives, and closes the connection when the server
	// answers: the statement is executed, and its client does not know. Hold is
	// ignored.
	Answers bool

	// Statements selects the statements that the fault concerns, by their text. It
	// concerns the connection from such a statement on. If nil, it concerns all
	// connections, old and new, in both directions.
	Statements func(text string) bool
}

// StartProxy starts a proxy in front of a port of 127.0.0.1. Close it when done.
func StartProxy(target int) (*Proxy, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("pgtest: proxy: %w", err)
	}
	p := &Proxy{listener: listener, target: target, links: make(map[*link]struct{})}
	p.changed.L = &p.mu
	p.all.Go(p.accept)
	return p, nil
}

// Port returns the proxy's port.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// DSN returns the URL of a database behind the proxy.
func (p *Proxy) DSN(database string) string { return dsn(p.Port(), database) }

// Point makes new connections lead to another port, and closes the old ones.
func (p *Proxy) Point(target int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	p.endLinks()
}

// Disturb begins a fault. It replaces one that has not ended.
func (p *Proxy) Disturb(fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = &fault
	if fault.Statements == nil && !fault.Hold {
		p.endLinks()
	}
	p.changed.Broadcast()
}

// Heal ends the fault.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = nil
	p.changed.Broadcast()
}

// Close closes the proxy and its connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.listener.Close()
	p.endLinks()
	p.mu.Unlock()
	p.all.Wait()
}

// endLinks closes all connections; mu is held.
func (p *Proxy) endLinks() {
	for l := range p.links {
		l.end()
	}
	p.changed.Broadcast()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.serve(client) })
	}
}

// serve is one connection. It is made to the server when the first message may pass.
func (p *Proxy) serve(client net.Conn) {
	l := &link{client: client}
	p.mu.Lock()
	if p.closed {
		l.end()
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	defer p.drop(l)
	if !p.pass(l, "") {
		return
	}
	server, err := p.dial(l)
	if err != nil {
		return
	}
	p.all.Go(func() {
		defer p.drop(l)
		buf := make([]byte, 32<<10)
		for {
			n, err := server.Read(buf)
			if n > 0 && p.answer(l) {
				_, failed := client.Write(buf[:n])
				err = errors.Join(err, failed)
			}
			if err != nil {
				return
			}
		}
	})
	messages := messageReader{from: client, prepared: make(map[string]string)}
	for {
		message, statement, err := messages.next()
		if err != nil || !p.pass(l, statement) {
			return
		}
		if _, err := server.Write(message); err != nil {
			return
		}
	}
}

// dial connects a link to the server.
func (p *Proxy) dial(l *link) (net.Conn, error) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(target)))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.server = server
	if l.ended { // meanwhile
		l.end()
		return nil, net.ErrClosed
	}
	return server, nil
}

// pass returns when a link may deliver the next piece, which belongs to a statement
// ("": none). It reports false if the link must end.
func (p *Proxy) pass(l *link, statement string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var known *Fault // its statements have been compared
	concerned := false
	for !l.ended {
		f := p.fault
		if f != nil && f != known {
			known, concerned = f, f.Statements == nil || statement != "" && f.Statements(statement)
		}
		switch {
		case f == nil || !concerned:
			return true
		case f.Answers:
			l.mute = true
			return true
		case !f.Hold:
			return false
		}
		p.changed.Wait()
	}
	return false
}

// answer is pass for what the server sends.
func (p *Proxy) answer(l *link) bool {
	p.mu.Lock()
	if l.mute {
		l.end()
	}
	p.mu.Unlock()
	return p.pass(l, "")
}

func (p *Proxy) drop(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
	l.end()
	p.changed.Broadcast()
}

// link is one connection through a proxy. The proxy's mutex guards it.
type link struct {
	client net.Conn
	server net.Conn // nil: none yet
	ended  bool
	mute   bool // the next answer ends it
}

func (l *link) end() {
	l.ended = true
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}
