package envoy

import (
	"context"
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc"
)

// fakeStream is a gRPC stream without a connection.
type fakeStream struct {
	grpc.ServerStream
	ctx  context.Context
	ask  chan []string // cluster names of each request; closed at the end
	sent chan struct{}
}

func (s *fakeStream) Context() context.Context { return s.ctx }

func (s *fakeStream) RecvMsg(m any) error {
	names, ok := <-s.ask
	if !ok {
		return io.EOF
	}
	r := m.(*request)
	r.typeURL, r.names = typeURL, names
	return nil
}

func (s *fakeStream) SendMsg(m any) error {
	m.(*outgoing).release()
	s.sent <- struct{}{}
	return nil
}

// A stream of many clusters answers a change of one of them.
func BenchmarkChangeOfOneCluster(b *testing.B) {
	for _, clusters := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(clusters), func(b *testing.B) {
			f := newFleet(b)
			var names []string
			for n := range clusters {
				names = append(names, fmt.Sprint("c", n))
				f.put(b, fmt.Sprintf("c%d/instances/i", n), `"port":1`)
			}
			s, err := New(f, Options{})
			if err != nil {
				b.Fatal(err)
			}
			v := newServing(s, nil)
			g := &fakeStream{ctx: b.Context(), ask: make(chan []string, 1), sent: make(chan struct{})}
			g.ask <- names
			done := make(chan error)
			go func() { done <- v.runStream(g, newSotwStream(&stream{Server: s, log: s.log}), new(*outgoing)) }()
			<-g.sent
			b.ReportAllocs()
			for b.Loop() {
				f.put(b, "c0/instances/i", `"port":1`)
				<-g.sent
			}
			close(g.ask)
			<-done
			v.readers.Wait()
		})
	}
}
