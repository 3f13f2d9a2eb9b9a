package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
)

// serveTCP accepts connections until ctx ends. It returns when all of them are closed.
func (s *Server) serveTCP(ctx context.Context) error {
	l := netutil.LimitListener(s.tcp, s.Connections)
	var group errgroup.Group
	for {
		conn, err := l.Accept()
		switch {
		case err == nil && !s.admits(conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()):
			conn.Close()
		case err == nil:
			group.Go(func() error { s.serveConn(ctx, conn); return nil })
		case errors.Is(err, net.ErrClosed) || !s.waitToRetry(ctx, "tcp", err):
			return group.Wait()
		}
	}
}

// serveConn answers the queries of a connection in their order (RFC 7766). It ends when
// the connection is idle for too long or sends something other than a query, or with ctx.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }) // between two queries
	defer stop()
	var in, out []byte
	for {
		packet, err := readMessage(ctx, conn, in)
		if err != nil {
			return
		}
		in = packet
		answer, _, ok := s.responder.respond(s.responder.completer(ctx), append(out[:0], 0, 0), packet, wholeSize)
		if !ok {
			return
		}
		out = answer
		binary.BigEndian.PutUint16(answer, uint16(len(answer)-2))
		_ = conn.SetWriteDeadline(time.Now().Add(messageTime))
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// readMessage reads a message with its length in front (RFC 1035, section 4.2.2). It uses
// the room of b, or a new slice where b is too small.
func readMessage(ctx context.Context, conn net.Conn, b []byte) ([]byte, error) {
	var size [2]byte
	if err := readFull(ctx, conn, idleTime, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if cap(b) < n {
		b = make([]byte, n)
	}
	return b[:n], readFull(ctx, conn, messageTime, b[:n])
}

// readFull fills b from the connection within a time limit. It fails when ctx ends: if
// that happens before the deadline is set it is seen here; afterwards serveConn sets an
// earlier deadline.
func readFull(ctx context.Context, conn net.Conn, limit time.Duration, b []byte) error {
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, b)
	return err
}
