package etcd

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Drain returns all responses that are queued.
func TestDrain(t *testing.T) {
	s := &WatchStream{responses: make(chan *pb.WatchResponse, 64)}
	for range 64 {
		s.responses <- &pb.WatchResponse{}
	}
	if got := len(s.Drain(&pb.WatchResponse{})); got != 64 {
		t.Errorf("%d responses are drained at once, want 64", got)
	}
	if got := len(s.Drain(&pb.WatchResponse{})); got != 2 {
		t.Errorf("then %d, want 2", got)
	}
	close(s.responses)
	if got := len(s.Drain(&pb.WatchResponse{})); got != 1 {
		t.Errorf("at the end %d, want 1", got)
	}
}
