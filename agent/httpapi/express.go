package httpapi

import (
	"context"
	"crypto/tls"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

// express is a listener that answers plain lookups on its connections by itself, at about
// half of what net/http costs, and hands over to net/http, which accepts from it, each
// connection that sends anything else, with what was read from it and for good. So nothing
// here has to understand HTTP; see [recognize].
type express struct {
	net.Listener
	api    *API
	handed chan handed

	serving sync.WaitGroup
	mu      sync.Mutex
	open    map[net.Conn]struct{} // those that are answered here
	closed  chan struct{}
}

// handed is what net/http accepts: a connection, or why there is none.
type handed struct {
	net.Conn
	err error
}

func newExpress(a *API, l net.Listener) *express {
	return &express{Listener: l, api: a, handed: make(chan handed), open: map[net.Conn]struct{}{}, closed: make(chan struct{})}
}

// run takes connections in until the listener is closed.
func (x *express) run() {
	for !x.isClosed() {
		conn, err := x.Listener.Accept()
		if _, encrypted := conn.(*tls.Conn); err != nil || encrypted { // net/http must see TLS as such
			x.hand(conn, err)
			continue
		}
		if x.add(conn) {
			go x.serve(conn)
		}
	}
}

// Accept returns the next connection that net/http is to serve.
func (x *express) Accept() (net.Conn, error) {
	select {
	case h := <-x.handed:
		return h.Conn, h.err
	case <-x.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener, and the connections that are answered here once they wait for
// a request.
func (x *express) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.isClosed() {
		close(x.closed)
	}
	for conn := range x.open {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // a closed one does not mind
	}
	return x.Listener.Close()
}

// wait returns when no connection is answered here any more. At the end of ctx it drops
// those that are left.
func (x *express) wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		for conn := range x.open {
			conn.Close()
		}
	})
	defer stop()
	x.serving.Wait()
}

func (x *express) isClosed() bool {
	select {
	case <-x.closed:
		return true
	default:
		return false
	}
}

// add makes a connection one of those that are answered here, with the time for its first
// request; or closes it, if the listener is closed.
func (x *express) add(conn net.Conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.isClosed() {
		conn.Close()
		return false
	}
	_ = conn.SetReadDeadline(time.Now().Add(headerTime))
	x.open[conn] = struct{}{}
	x.serving.Add(1)
	return true
}

// extend gives a connection time for an answer to be read and for the next request.
func (x *express) extend(conn net.Conn, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	_ = conn.SetWriteDeadline(now.Add(x.api.times.write))
	if !x.isClosed() {
		_ = conn.SetReadDeadline(now.Add(idleTime))
	}
}

func (x *express) remove(conn net.Conn) {
	x.mu.Lock()
	delete(x.open, conn)
	x.mu.Unlock()
	x.serving.Done()
}

// hand lets net/http accept a connection or an error.
func (x *express) hand(conn net.Conn, err error) {
	select {
	case x.handed <- handed{conn, err}:
	case <-x.closed:
		if conn != nil {
			conn.Close()
		}
	}
}

// serve answers what comes in on a connection, and hands it over with what it cannot
// answer.
func (x *express) serve(conn net.Conn) {
	defer x.remove(conn)
	defer func() {
		if failed := recover(); failed != nil { // as net/http does: one request must not end the agent
			x.api.log.Error("panic while answering a lookup", "panic", failed, "stack", string(debug.Stack()))
			conn.Close()
		}
	}()
	rest, err := x.answer(conn)
	if err != nil {
		conn.Close()
		return
	}
	_ = conn.SetDeadline(time.Time{})
	x.hand(&begun{conn, rest}, nil)
}

// answer answers plain lookups until a connection fails, or sends something else, which it
// returns.
func (x *express) answer(conn net.Conn) (rest []byte, err error) {
	client := client{api: x.api, local: conn.LocalAddr()}
	in := make([]byte, mostRequest)
	var extended time.Time
	for {
		n, err := conn.Read(in)
		if err != nil {
			return nil, err
		}
		for rest = in[:n]; len(rest) > 0; {
			now := time.Now()
			out, length := client.answer(rest, now)
			if length == 0 {
				return rest, nil
			}
			if now.Sub(extended) > x.api.times.write/2 { // not each time: setting a deadline costs as much as an answer
				x.extend(conn, now)
				extended = now
			}
			if _, err := conn.Write(out); err != nil {
				return nil, err
			}
			rest = rest[length:]
		}
	}
}

// begun is a connection of which something was read already.
type begun struct {
	net.Conn
	read []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.read) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.read)
	b.read = b.read[n:]
	if len(b.read) == 0 {
		b.read = nil // the buffer is of no more use
	}
	return n, nil
}
