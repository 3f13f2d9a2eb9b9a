package envoy

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	"disc/discovery/view"
)

// A response that was read is not kept: neither by its timer nor by its stream.
func TestReadResponsesAreNotKept(t *testing.T) {
	u := newUnread(1<<20, time.Hour, nil)
	address := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	conn := &trackedConn{of: u, unread: map[*outgoing]struct{}{}}
	u.conns[address.String()] = conn
	o, err := u.reserve(peer.NewContext(t.Context(), &peer.Peer{Addr: address}), make([]byte, 10_000))
	if err != nil {
		t.Fatal(err)
	}
	b, err := o.buffer()
	if err != nil || b.Len() != 10_000 || u.used != 10_000 || len(conn.unread) != 1 {
		t.Fatalf("%d bytes, %d used, %d unread, %v", b.Len(), u.used, len(conn.unread), err)
	}
	b.Free()
	if o.bytes != nil || u.used != 0 || len(conn.unread) != 0 {
		t.Errorf("after it was read: %d bytes, %d used, %d unread", len(o.bytes), u.used, len(conn.unread))
	}
	if o.late.Stop() {
		t.Error("the timer goes on")
	}
	// The connection may be closed before gRPC asks for the bytes.
	_, err = o.buffer()
	wantCode(t, err, codes.Unavailable, "the client's connection is closed")
}

// sized is a client whose response is due, and as large.
type sized struct {
	variant
	size  int
	built *atomic.Int64
}

func (s sized) nextResponse(*view.Snapshot) (encoder, bool) {
	s.built.Add(1)
	return s, true
}

func (s sized) appendTo([]byte) []byte { return make([]byte, s.size) }

// Responses that wait for room let others be made that have room, but not ever more.
func TestWaitingForRoomStopsNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(pair(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.bounds.unread = 1000
		v := newServing(s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var built, made atomic.Int64
		start := func(n, size int) {
			for range n {
				go func() {
					if _, err := v.makeResponse(ctx, sized{size: size, built: &built}); err == nil {
						made.Add(1)
					}
				}()
			}
			synctest.Wait()
		}
		want := func(when string, wantBuilt, wantMade int64) {
			t.Helper()
			if b, m := built.Load(), made.Load(); b != wantBuilt || m != wantMade {
				t.Errorf("%s: %d built, %d made; want %d, %d", when, b, m, wantBuilt, wantMade)
			}
		}
		start(1, 980)
		want("the first", 1, 1)
		start(2*maxBuilding, 30)
		want("those without room", 1+2*maxBuilding, 1)
		start(1, 10)
		want("one with room", 2+2*maxBuilding, 2)
		start(1, 30)
		want("the last that may wait", 3+2*maxBuilding, 2)
		start(10, 1)
		want("when too much waits", 3+2*maxBuilding, 2)
		cancel()
		synctest.Wait()
		if v.unread.held != 0 || v.unread.waiting != 0 || len(v.building) != 0 {
			t.Errorf("at the end %d bytes wait in %d streams, and %d are built", v.unread.held, v.unread.waiting, len(v.building))
		}
	})
}
