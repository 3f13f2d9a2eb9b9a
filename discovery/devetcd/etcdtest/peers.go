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

// peerLink is the way of the other members to one. Each of them has a link of its own
// behind it, since etcd knows one address of a member and both sides of a pair of them
// connect.
type peerLink struct {
	t        testing.TB
	listener net.Listener
	to       string
	copiers  sync.WaitGroup

	mu     sync.Mutex
	links  map[string]*Link // by the id of who connects; "": unknown, as while joining
	frozen map[string]bool
	all    bool // frozen whoever connects
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

// Endpoint is the address that the other members connect to.
func (p *peerLink) Endpoint() string { return p.listener.Addr().String() }

// freeze holds what a member sends, and what it is answered.
func (p *peerLink) freeze(id string) { p.change(func() { p.frozen[id] = true }) }

// freezeAll holds what all members send.
func (p *peerLink) freezeAll() { p.change(func() { p.all = true }) }

// mend takes back freeze.
func (p *peerLink) mend(id string) { p.change(func() { delete(p.frozen, id) }) }

// mendAll takes back freezeAll.
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

// serve leads a connection over the link of who made it, who says so with its first
// request.
func (p *peerLink) serve(from net.Conn) {
	defer from.Close()
	if !p.keep(from) {
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

// link is that of a member.
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

// keep notes a connection, and reports false when there are to be none any more.
func (p *peerLink) keep(conn net.Conn) bool {
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
