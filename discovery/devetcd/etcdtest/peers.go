package etcdtest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// peerLink is the address where the other members reach a member. Behind it is one Link
// for each of them, so that a test can break them one by one: etcd knows a single peer
// address of a member, and both members of a pair connect to each other.
type peerLink struct {
	t        testing.TB
	listener net.Listener
	to       string
	copiers  sync.WaitGroup

	mu     sync.Mutex
	links  map[string]*Link // by the connecting member's id; "" while it is unknown, as in a join
	frozen map[string]bool  // by the connecting member's id
	all    bool             // every member is frozen
	open   map[net.Conn]bool
	ended  bool
}

func startPeerLink(t testing.TB, to string) *peerLink {
	t.Helper()
	listener, err := net.Listen("tcp", Address(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &peerLink{t: t, listener: listener, to: to, links: map[string]*Link{}, frozen: map[string]bool{}, open: map[net.Conn]bool{}}
	p.copiers.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Endpoint returns the address that the other members connect to, host:port.
func (p *peerLink) Endpoint() string { return p.listener.Addr().String() }

// freeze holds back what a member sends, and the answers to it.
func (p *peerLink) freeze(id string) { p.change(func() { p.frozen[id] = true }) }

// freezeAll freezes every member, those that connect later too.
func (p *peerLink) freezeAll() { p.change(func() { p.all = true }) }

// mend undoes freeze.
func (p *peerLink) mend(id string) { p.change(func() { delete(p.frozen, id) }) }

// mendAll undoes freezeAll.
func (p *peerLink) mendAll() { p.change(func() { p.all = false }) }

func (p *peerLink) change(what func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what()
	for id, l := range p.links {
		p.set(id, l)
	}
}

func (p *peerLink) set(id string, l *Link) {
	if p.all || p.frozen[id] {
		l.Freeze()
	} else {
		l.Mend()
	}
}

func (p *peerLink) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.copiers.Go(func() { p.serve(conn) })
	}
}

// serve forwards a connection over the link of the member that made it. The member's id
// is in the header of its first request.
func (p *peerLink) serve(from net.Conn) {
	defer from.Close()
	if !p.track(from) {
		return
	}
	defer p.forget(from)
	var head bytes.Buffer
	request, err := http.ReadRequest(bufio.NewReader(io.TeeReader(from, &head)))
	if err != nil {
		return
	}
	to, err := net.Dial("tcp", p.link(request.Header.Get("X-Server-From")).Endpoint())
	if err != nil {
		return
	}
	defer to.Close()
	p.copiers.Go(func() {
		defer from.Close()
		io.Copy(from, to)
	})
	io.Copy(to, io.MultiReader(&head, from))
}

// link returns the link of a member, and starts it if there is none.
func (p *peerLink) link(id string) *Link {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.links[id]
	if !ok {
		l = StartLink(p.t, p.to)
		p.set(id, l)
		p.links[id] = l
	}
	return l
}

// track adds a connection to those that close closes. It returns false after close.
func (p *peerLink) track(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[conn] = true
	return !p.ended
}

func (p *peerLink) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
}

func (p *peerLink) close() {
	p.listener.Close()
	p.mu.Lock()
	p.ended = true
	for conn := range p.open {
		conn.Close()
	}
	p.mu.Unlock()
	p.copiers.Wait()
}
