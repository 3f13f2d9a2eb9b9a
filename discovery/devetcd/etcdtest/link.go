package etcdtest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Link is a TCP proxy in front of an etcd that a test can break. Clients connect to its
// Endpoint.
type Link struct {
	listener net.Listener
	to       string
	copiers  sync.WaitGroup
	sent     atomic.Int64
	received atomic.Int64

	mu       sync.Mutex
	open     map[net.Conn]chan struct{} // by client's connection; closed when Cut ends it
	requests chan struct{}              // closed while requests pass
	answers  chan struct{}              // closed while answers pass
}

// StartLink runs a link to an endpoint until the test ends.
func StartLink(t testing.TB, endpoint string) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{listener: listener, to: endpoint, open: map[net.Conn]chan struct{}{}, requests: closed(), answers: closed()}
	l.copiers.Go(l.accept)
	t.Cleanup(func() {
		listener.Close()
		l.Cut()
		l.copiers.Wait()
	})
	return l
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Endpoint returns the address that clients connect to, host:port.
func (l *Link) Endpoint() string { return l.listener.Addr().String() }

// Sent returns the number of bytes that clients have sent.
func (l *Link) Sent() int { return int(l.sent.Load()) }

// Received returns the number of bytes that clients have received.
func (l *Link) Received() int { return int(l.received.Load()) }

// Cut closes all connections. Clients can connect again.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn, end := range l.open {
		conn.Close()
		close(end)
		delete(l.open, conn)
	}
}

// HoldAnswers lets requests pass and holds answers back, until Mend or Cut.
func (l *Link) HoldAnswers() {
	l.hold(&l.answers)
}

// Freeze holds back requests and answers on connections that stay open, until Mend or
// Cut.
func (l *Link) Freeze() {
	l.hold(&l.answers)
	l.hold(&l.requests)
}

// hold shuts a gate.
func (l *Link) hold(gate *chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-*gate:
		*gate = make(chan struct{})
	default:
	}
}

// Mend lets everything pass again, beginning with what was held back.
func (l *Link) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, gate := range []chan struct{}{l.requests, l.answers} {
		select {
		case <-gate:
		default:
			close(gate)
		}
	}
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		end := make(chan struct{})
		l.mu.Lock()
		l.open[client] = end
		l.mu.Unlock()
		l.copiers.Go(func() { l.serve(client, end) })
	}
}

// serve connects a client to etcd once requests pass.
func (l *Link) serve(client net.Conn, end chan struct{}) {
	defer client.Close()
	if !l.pass(&l.requests, end) {
		return
	}
	server, err := net.Dial("tcp", l.to)
	if err != nil {
		return
	}
	l.copiers.Go(func() { l.copy(client, counted{server, &l.received}, end, &l.answers) })
	l.copy(server, counted{client, &l.sent}, end, &l.requests)
}

// counted is a connection that counts the bytes read from it.
type counted struct {
	net.Conn
	read *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

// pass waits until a gate is open. It returns false if the connection ends first.
func (l *Link) pass(gate *chan struct{}, end chan struct{}) bool {
	l.mu.Lock()
	open := *gate
	l.mu.Unlock()
	select {
	case <-open:
		return true
	case <-end:
		return false
	}
}

// copy forwards what it reads from one side while the gate is open.
func (l *Link) copy(to, from net.Conn, end chan struct{}, gate *chan struct{}) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !l.pass(gate, end) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
