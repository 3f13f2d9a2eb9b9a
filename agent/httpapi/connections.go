package httpapi

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// How long a connection keeps its place, however many others come: while it is new or busy with
// a request, and between two requests.
const (
	busyGrace = time.Second
	idleGrace = 50 * time.Millisecond
)

// started is what the times of connections count from, by a clock that is not set.
var started = time.Now()

// connections are the open connections of a listener, at most limit.
type connections struct {
	net.Listener
	limit int
	grace time.Duration // of one that is busy

	mu     sync.Mutex
	open   map[*connection]struct{}
	freed  chan struct{} // has an element when a place was freed
	closed chan struct{}
	once   sync.Once
}

// connection is an open connection.
type connection struct {
	net.Conn
	of    *connections
	since atomic.Int64 // of the last use, in nanoseconds from started
	idle  atomic.Bool  // it is between two requests
	held  atomic.Int32 // blocking queries, watches and holds on it: it keeps its place
	once  sync.Once
}

// LimitListener limits a listener to a number of connections, at most [MaxConnections]. One
// beyond that takes the place of the connection that has been idle for the longest time above
// 50 ms, or new or busy with a request for the longest time above a second. Until there is such a
// one, more wait to be accepted. So a caller with a short request is answered however many
// connections are idle, slow or unfinished, or have a short request now and then. Connections
// with blocking queries, watches or held grants stay; the API bounds how many of these there
// are. TLS goes on top of it: the server speaks HTTP/2 only on connections whose type is
// *tls.Conn.
func LimitListener(l net.Listener, limit int) net.Listener {
	return &connections{
		Listener: l, limit: min(limit, MaxConnections), grace: busyGrace,
		open: map[*connection]struct{}{}, freed: make(chan struct{}, 1), closed: make(chan struct{}),
	}
}

// Accept returns the next connection, when there is a place for it.
func (l *connections) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn, of: l}
	for {
		wait, added := l.add(c)
		if added {
			return c, nil
		}
		late := time.NewTimer(wait)
		select {
		case <-late.C:
		case <-l.freed:
		case <-l.closed:
			conn.Close()
			return nil, net.ErrClosed
		}
		late.Stop()
	}
}

// Close closes the listener. Its connections stay open.
func (l *connections) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// add adds a connection, and closes another one if there are too many. If there is none that
// may be closed, add returns when there may be one, unless a place is freed before.
func (l *connections) add(c *connection) (wait time.Duration, added bool) {
	l.mu.Lock()
	now := time.Now()
	var victim *connection
	if len(l.open) >= l.limit {
		var until time.Duration
		victim, until = l.longest()
		wait = until - now.Sub(started)
		if victim == nil {
			wait = l.grace
		}
		if victim == nil || wait > 0 {
			l.mu.Unlock()
			return wait, false
		}
		delete(l.open, victim)
	}
	c.Touch(now, false)
	l.open[c] = struct{}{}
	l.mu.Unlock()
	if victim != nil {
		victim.Close()
	}
	return 0, true
}

// longest returns the connection that has used up its time first and is not held, and until
// when, from started, it keeps its place; nil if all are held. l.mu is locked.
func (l *connections) longest() (found *connection, until time.Duration) {
	for c := range l.open {
		grace := l.grace
		if c.idle.Load() {
			grace = min(grace, idleGrace)
		}
		if u := time.Duration(c.since.Load()) + grace; c.held.Load() == 0 && (found == nil || u < until) {
			found, until = c, u
		}
	}
	return found, until
}

// Touch records that the connection is in use, and whether it is idle from then on.
func (c *connection) Touch(now time.Time, idle bool) {
	c.since.Store(int64(now.Sub(started)))
	if c.idle.Load() != idle {
		c.idle.Store(idle)
	}
}

// Close closes the connection and frees its place.
func (c *connection) Close() error {
	c.once.Do(func() {
		c.of.mu.Lock()
		delete(c.of.open, c)
		c.of.mu.Unlock()
		select {
		case c.of.freed <- struct{}{}:
		default:
		}
	})
	return c.Conn.Close()
}

// connectionOf returns the limited connection below the layers of another, such as TLS; nil if
// there is none.
func connectionOf(conn net.Conn) *connection {
	for {
		switch c := conn.(type) {
		case *connection:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// noteState records when a connection of a server becomes active or idle.
func noteState(conn net.Conn, state http.ConnState) {
	if c := connectionOf(conn); c != nil {
		c.Touch(time.Now(), state == http.StateIdle)
	}
}

type connectionKey struct{}

// withConnection makes the connection of a request known to its handler.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	if c := connectionOf(conn); c != nil {
		return context.WithValue(ctx, connectionKey{}, c)
	}
	return ctx
}
