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

// serveTCP accepts connections until ctx ends, and returns when all are closed.
func (s *Server) serveTCP(ctx context.Context) error {
	l := netutil.LimitListener(s.tcp, s.Connections)
	var group errgroup.Group
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			group.Go(func() error { s.converse(ctx, conn); return nil })
		case errors.Is(err, net.ErrClosed) || !s.paused(ctx, "tcp", err):
			return group.Wait()
		}
	}
}

// converse answers the queries of a connection in their order (RFC 7766), until it has
// been idle for too long, says what is no query, or ctx ends.
func (s *Server) converse(ctx context.Context, conn net.Conn) {
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
		answer, _, ok := s.responder.respond(s.responder.completes(ctx), append(out[:0], 0, 0), packet, wholeSize)
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

// readMessage reads a message and its length before it (RFC 1035, section 4.2.2) into
// b, or into more where it has not the room.
func readMessage(ctx context.Context, conn net.Conn, b []byte) ([]byte, error) {
	var size [2]byte
	if err := readWithin(ctx, conn, idleTime, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if cap(b) < n {
		b = make([]byte, n)
	}
	return b[:n], readWithin(ctx, conn, messageTime, b[:n])
}

// readWithin fills b. The end of ctx ends it: one that comes before the new deadline is
// seen here, one that comes after it sets another.
func readWithin(ctx context.Context, conn net.Conn, limit time.Duration, b []byte) error {
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, b)
	return err
}
