package fastpath

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

// Timeouts limit the connections that a Listener answers itself. They are those of the
// http.Server that accepts from it.
type Timeouts struct {
	ReadHeader time.Duration // for the first request to come in
	Idle       time.Duration // between two requests
	Write      time.Duration // for the caller to read an answer
}

// Listener answers plain requests on its connections, and lets net/http accept each
// connection that sends anything else.
type Listener struct {
	net.Listener
	answerer Answerer
	timeouts Timeouts
	log      *slog.Logger
	accepted chan accepted

	serving sync.WaitGroup
	mu      sync.Mutex
	open    map[net.Conn]struct{} // the connections that are answered here
	closed  chan struct{}
}

// touchInterval is how often at most a connection is told that it is in use.
const touchInterval = 25 * time.Millisecond

// touched is a connection that wants to know when it is in use. Between two requests it is idle.
type touched interface {
	Touch(now time.Time, idle bool)
}

// accepted is a result of [Listener.Accept]: a connection, or an error.
type accepted struct {
	net.Conn
	err error
}

// NewListener returns a Listener over l. It does nothing until [Listener.Run].
func NewListener(l net.Listener, a Answerer, t Timeouts, log *slog.Logger) *Listener {
	return &Listener{
		Listener: l, answerer: a, timeouts: t, log: log,
		accepted: make(chan accepted), open: map[net.Conn]struct{}{}, closed: make(chan struct{}),
	}
}

// Run accepts connections and answers on them until the listener is closed.
func (l *Listener) Run() {
	for !l.isClosed() {
		conn, err := l.Listener.Accept()
		if _, encrypted := conn.(*tls.Conn); err != nil || encrypted { // net/http must see that it is TLS
			l.handOver(conn, err)
			continue
		}
		if l.add(conn) {
			go l.serve(conn)
		}
	}
}

// Accept returns the next connection for net/http to serve.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepted:
		return a.Conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener. The connections that are answered here end when they next
// wait for a request; see [Listener.Wait].
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isClosed() {
		close(l.closed)
	}
	for conn := range l.open {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // it may be closed already
	}
	return l.Listener.Close()
}

// Wait returns when no connection is answered here any more. At the end of ctx it
// closes those that are left. The listener must be closed before.
func (l *Listener) Wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for conn := range l.open {
			conn.Close()
		}
	})
	defer stop()
	l.serving.Wait()
}

func (l *Listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// add registers a connection to be answered here and limits the time for its first
// request. If the listener is closed, it closes the connection and returns false.
func (l *Listener) add(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		conn.Close()
		return false
	}
	_ = conn.SetReadDeadline(time.Now().Add(l.timeouts.ReadHeader))
	l.open[conn] = struct{}{}
	l.serving.Add(1)
	return true
}

// extend limits the time for the caller to read an answer and to send the next request.
func (l *Listener) extend(conn net.Conn, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = conn.SetWriteDeadline(now.Add(l.timeouts.Write))
	if !l.isClosed() {
		_ = conn.SetReadDeadline(now.Add(l.timeouts.Idle))
	}
}

func (l *Listener) remove(conn net.Conn) {
	l.mu.Lock()
	delete(l.open, conn)
	l.mu.Unlock()
	l.serving.Done()
}

// handOver makes Accept return a connection or an error.
func (l *Listener) handOver(conn net.Conn, err error) {
	select {
	case l.accepted <- accepted{conn, err}:
	case <-l.closed:
		if conn != nil {
			conn.Close()
		}
	}
}

// serve answers the plain requests of a connection, then hands it to net/http.
func (l *Listener) serve(conn net.Conn) {
	defer l.remove(conn)
	defer func() {
		if failed := recover(); failed != nil { // as net/http does: one request must not end the agent
			l.log.Error("panic while answering a plain request", "panic", failed, "stack", string(debug.Stack()))
			conn.Close()
		}
	}()
	rest, err := l.answer(conn)
	if err != nil {
		conn.Close()
		return
	}
	_ = conn.SetDeadline(time.Time{})
	l.handOver(&prefixedConn{conn, rest}, nil)
}

// answer answers plain requests until the connection fails, or sends something else:
// that it returns.
func (l *Listener) answer(conn net.Conn) (rest []byte, err error) {
	r := NewResponder(l.answerer, conn.LocalAddr())
	in := make([]byte, maxRequest)
	inUse, _ := conn.(touched)
	var extended, used time.Time
	for {
		n, err := conn.Read(in)
		if err != nil {
			return nil, err
		}
		for rest = in[:n]; len(rest) > 0; {
			now := time.Now()
			out, length := r.Respond(rest, now)
			if length == 0 {
				return rest, nil
			}
			if now.Sub(extended) > l.timeouts.Write/2 { // not each time: setting a deadline costs as much as an answer
				l.extend(conn, now)
				extended = now
			}
			if inUse != nil && now.Sub(used) >= touchInterval {
				inUse.Touch(now, true)
				used = now
			}
			if _, err := conn.Write(out); err != nil {
				return nil, err
			}
			rest = rest[length:]
		}
	}
}

// prefixedConn is a connection whose first bytes were read already: Read returns them
// first.
type prefixedConn struct {
	net.Conn
	prefix []byte
}

// NetConn returns the connection below.
func (c *prefixedConn) NetConn() net.Conn { return c.Conn }

func (c *prefixedConn) Read(p []byte) (int, error) {
	if len(c.prefix) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.prefix)
	c.prefix = c.prefix[n:]
	if len(c.prefix) == 0 {
		c.prefix = nil // releases the buffer
	}
	return n, nil
}
