package envoy

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// leastResponse is the least size of a response's buffer: gRPC does not give smaller ones back.
const leastResponse = 4 << 10

// unread bounds the bytes of the responses that gRPC holds until clients have read them.
type unread struct {
	size     int64
	readTime time.Duration // how long a client may take to read a response while others wait for room

	mu      sync.Mutex
	used    int64
	waiting int                     // streams that wait for room
	freed   chan struct{}           // closed when there is more room
	conns   map[string]*trackedConn // by the client's address
}

func newUnread(size int64, readTime time.Duration) *unread {
	return &unread{size: size, readTime: readTime, freed: make(chan struct{}), conns: map[string]*trackedConn{}}
}

// trackedConn is a connection of a client, with what that has not read.
type trackedConn struct {
	net.Conn
	of     *unread
	unread map[*outgoing]struct{}
	once   sync.Once
}

// trackingListener accepts connections whose unread responses are counted.
type trackingListener struct {
	net.Listener
	unread *unread
}

func (l *trackingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &trackedConn{Conn: conn, of: l.unread, unread: map[*outgoing]struct{}{}}
	l.unread.mu.Lock()
	defer l.unread.mu.Unlock()
	l.unread.conns[conn.RemoteAddr().String()] = c
	return c, nil
}

// Close closes the connection. What its client has not read is gone.
func (c *trackedConn) Close() error {
	c.once.Do(func() {
		c.of.mu.Lock()
		delete(c.of.conns, c.RemoteAddr().String())
		var left []*outgoing
		for o := range c.unread {
			left = append(left, o)
		}
		c.of.mu.Unlock()
		for _, o := range left {
			o.release()
		}
	})
	return c.Conn.Close()
}

// outgoing is an encoded response. It has its room until gRPC has written it to the connection.
type outgoing struct {
	bytes []byte
	of    *unread
	conn  *trackedConn // nil: closed, or unknown
	late  *time.Timer
	done  chan struct{} // closed when the room is given back
	once  sync.Once
}

// reserve waits until there is room for a response and takes it. One that is larger than all
// the room has it when there is no other.
func (u *unread) reserve(ctx context.Context, response encoder) (*outgoing, error) {
	o := &outgoing{bytes: response.appendTo(make([]byte, 0, leastResponse)), of: u, done: make(chan struct{})}
	if err := u.take(ctx, int64(cap(o.bytes))); err != nil {
		return nil, err
	}
	if p, ok := peer.FromContext(ctx); ok {
		u.mu.Lock()
		if o.conn = u.conns[p.Addr.String()]; o.conn != nil {
			o.conn.unread[o] = struct{}{}
		}
		u.mu.Unlock()
	}
	if o.conn != nil {
		o.late = time.AfterFunc(u.readTime, o.closeLate)
	}
	return o, nil
}

// take waits for room for n bytes.
func (u *unread) take(ctx context.Context, n int64) error {
	late := time.NewTimer(2 * u.readTime) // by then those who keep the room have lost their connections
	defer late.Stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.used > 0 && u.used+n > u.size {
		freed := u.freed
		u.waiting++
		u.mu.Unlock()
		var err error
		select {
		case <-freed:
		case <-late.C:
			err = status.Errorf(codes.ResourceExhausted, "there is no room for a response of %d bytes: those that clients have not read may take %d bytes in all", n, u.size)
		case <-ctx.Done():
			err = status.FromContextError(ctx.Err()).Err()
		}
		u.mu.Lock()
		u.waiting--
		if err != nil {
			return err
		}
	}
	u.used += n
	return nil
}

// closeLate closes the connection of a client that has not read a response in time, if others
// wait for the room. Otherwise it looks again later.
func (o *outgoing) closeLate() {
	o.of.mu.Lock()
	short := o.of.waiting > 0
	o.of.mu.Unlock()
	select {
	case <-o.done:
	default:
		if short {
			o.conn.Close()
		} else {
			o.late.Reset(o.of.readTime)
		}
	}
}

// release gives back the room.
func (o *outgoing) release() {
	o.once.Do(func() {
		u := o.of
		u.mu.Lock()
		defer u.mu.Unlock()
		u.used -= int64(cap(o.bytes))
		if o.conn != nil {
			delete(o.conn.unread, o)
		}
		close(u.freed)
		u.freed = make(chan struct{})
		close(o.done)
	})
}

// buffer returns the response for gRPC, which calls Put when it has written it.
func (o *outgoing) buffer() mem.Buffer { return mem.NewBuffer(&o.bytes, o) }

// Get is not called: gRPC takes no buffer from a response.
func (o *outgoing) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// Put implements mem.BufferPool.
func (o *outgoing) Put(*[]byte) { o.release() }
