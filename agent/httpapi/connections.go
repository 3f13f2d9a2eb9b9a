package httpapi

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// connections are the open connections of a listener, at most limit. A new one beyond that
// takes the place of the one that has waited or worked longest, except those that are held: so a
// caller with a short request is answered however many connections are idle, slow or unfinished.
type connections struct {
	net.Listener
	limit int

	mu   sync.Mutex
	open map[*connection]struct{}
}

// connection is an open connection.
type connection struct {
	net.Conn
	of    *connections
	since atomic.Int64 // of the last change between idle and active, in Unix nanoseconds
	held  atomic.Int32 // blocking queries, watches and holds on it: it keeps its place
	once  sync.Once
}

// LimitListener limits a listener to a number of connections, at most [MaxConnections]. One
// beyond that takes the place of the connection that has been idle or busy with a request for
// the longest time. Those with blocking queries, watches or held grants stay; the API bounds how
// many of these there are. TLS goes on top of it: the server speaks HTTP/2 only on connections
// whose type is *tls.Conn.
func LimitListener(l net.Listener, limit int) net.Listener {
	return &connections{Listener: l, limit: min(limit, MaxConnections), open: map[*connection]struct{}{}}
}

// Accept returns the next connection. It closes another one where there are too many.
func (l *connections) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: conn, of: l}
		c.Touch(time.Now())
		if l.add(c) {
			return c, nil
		}
		conn.Close()
	}
}

// add adds a connection and reports whether there was a place for it.
func (l *connections) add(c *connection) bool {
	l.mu.Lock()
	var victim *connection
	full := len(l.open) >= l.limit
	if full {
		victim = l.longest()
	}
	if !full || victim != nil {
		delete(l.open, victim)
		l.open[c] = struct{}{}
	}
	l.mu.Unlock()
	if victim != nil {
		victim.Close()
	}
	return !full || victim != nil
}

// longest returns the connection that has been idle or active for the longest time and is not
// held; nil if all are held. l.mu is locked.
func (l *connections) longest() (found *connection) {
	var since int64
	for c := range l.open {
		if s := c.since.Load(); c.held.Load() == 0 && (found == nil || s < since) {
			found, since = c, s
		}
	}
	return found
}

// Touch records that the connection is in use.
func (c *connection) Touch(now time.Time) { c.since.Store(now.UnixNano()) }

// Close closes the connection and frees its place.
func (c *connection) Close() error {
	c.once.Do(func() {
		c.of.mu.Lock()
		delete(c.of.open, c)
		c.of.mu.Unlock()
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
func noteState(conn net.Conn, _ http.ConnState) {
	if c := connectionOf(conn); c != nil {
		c.Touch(time.Now())
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
