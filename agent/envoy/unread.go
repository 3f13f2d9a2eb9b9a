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

// While responses that wait for room have more bytes than its heldShare-th part, no more are
// made.
const heldShare = 4

// unread bounds the bytes of the responses that gRPC holds until clients have read them.
type unread struct {
	size     int64
	readTime time.Duration // how long a client may take to read a response while others wait for room
	stopping <-chan struct{}

	mu      sync.Mutex
	used    int64
	held    int64                   // bytes of responses that wait for room
	waiting int                     // streams that wait for room
	freed   chan struct{}           // closed when there is more room
	conns   map[string]*trackedConn // by the client's address
}

func newUnread(size int64, readTime time.Duration, stopping <-chan struct{}) *unread {
	return &unread{size: size, readTime: readTime, stopping: stopping, freed: make(chan struct{}), conns: map[string]*trackedConn{}}
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
	of   *unread
	size int64         // of the room
	done chan struct{} // closed when the room is given back

	// All under the mutex of unread.
	bytes []byte       // nil: the room is given back
	conn  *trackedConn // nil: closed, or unknown
	late  *time.Timer
}

// reserve waits until there is room for a response and takes it. One that is larger than all
// the room has it when there is no other.
func (u *unread) reserve(ctx context.Context, encoded []byte) (*outgoing, error) {
	o := &outgoing{bytes: encoded, size: int64(cap(encoded)), of: u, done: make(chan struct{})}
	if err := u.take(ctx, o.size); err != nil {
		return nil, err
	}
	if p, ok := peer.FromContext(ctx); ok {
		u.mu.Lock()
		defer u.mu.Unlock()
		if o.conn = u.conns[p.Addr.String()]; o.conn != nil {
			o.conn.unread[o] = struct{}{}
			o.late = time.AfterFunc(u.readTime, o.closeLate)
		}
	}
	return o, nil
}

// take waits for room for the n bytes of a response that is in memory already.
func (u *unread) take(ctx context.Context, n int64) error {
	late := time.NewTimer(2 * u.readTime) // by then those who keep the room have lost their connections
	defer late.Stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	fits := func() bool { return u.used == 0 || u.used+n <= u.size }
	if !fits() {
		u.held += n
		defer func() {
			u.held -= n
			u.wake()
		}()
	}
	for !fits() {
		if err := u.wait(ctx, late.C, n); err != nil {
			return err
		}
	}
	u.used += n
	return nil
}

// await waits until there may be room for a response that is not made yet: there is some, and
// those that are made do not wait for too much.
func (u *unread) await(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for !u.open() {
		if err := u.wait(ctx, nil, 0); err != nil {
			return err
		}
	}
	return nil
}

// isOpen reports whether await would not wait.
func (u *unread) isOpen() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.open()
}

func (u *unread) open() bool { return u.used == 0 || u.used < u.size && u.held <= u.size/heldShare }

// wait waits, with the mutex held before and after, until there is more room, or fails.
func (u *unread) wait(ctx context.Context, late <-chan time.Time, n int64) (err error) {
	freed := u.freed
	u.waiting++
	u.mu.Unlock()
	select {
	case <-freed:
	case <-late:
		err = status.Errorf(codes.ResourceExhausted, "there is no room for a response of %d bytes: those that clients have not read may take %d bytes in all", n, u.size)
	case <-u.stopping:
		err = errStopping
	case <-ctx.Done():
		err = status.FromContextError(ctx.Err()).Err()
	}
	u.mu.Lock()
	u.waiting--
	return err
}

// wake wakes those that wait, with the mutex held.
func (u *unread) wake() {
	if u.waiting > 0 {
		close(u.freed)
		u.freed = make(chan struct{})
	}
}

// closeLate closes the connection of a client that has not read a response in time, if others
// wait for the room. Otherwise it looks again later.
func (o *outgoing) closeLate() {
	u := o.of
	u.mu.Lock()
	slow := o.bytes != nil && u.waiting > 0
	if o.bytes != nil && !slow {
		o.late.Reset(u.readTime)
	}
	u.mu.Unlock()
	if slow {
		o.conn.Close()
	}
}

// release gives back the room, and keeps nothing of the response.
func (o *outgoing) release() {
	u := o.of
	u.mu.Lock()
	defer u.mu.Unlock()
	if o.bytes == nil {
		return
	}
	o.bytes = nil
	u.used -= o.size
	if o.conn != nil {
		delete(o.conn.unread, o)
		o.late.Stop()
	}
	u.wake()
	close(o.done)
}

// buffer returns the response for gRPC, which calls Put when it has written it.
func (o *outgoing) buffer() (mem.Buffer, error) {
	o.of.mu.Lock()
	defer o.of.mu.Unlock()
	if o.bytes == nil {
		return nil, status.Error(codes.Unavailable, "the client's connection is closed")
	}
	b := o.bytes
	return mem.NewBuffer(&b, o), nil
}

// Get is not called: gRPC takes no buffer from a response.
func (o *outgoing) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// Put implements mem.BufferPool.
func (o *outgoing) Put(*[]byte) { o.release() }
