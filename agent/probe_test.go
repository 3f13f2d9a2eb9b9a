package agent

import (
	"context"
	"net"
	"testing"

	"disc/discovery/devetcd/etcdtest"
)

func TestProbe(t *testing.T) {
	l, err := net.Listen("tcp", etcdtest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := probe(t.Context(), l.Addr().String()); err != nil {
		t.Errorf("somebody listens: %v", err)
	}
	l.Close()
	if probe(t.Context(), l.Addr().String()) == nil {
		t.Error("nobody listens")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if probe(ctx, l.Addr().String()) == nil {
		t.Error("nobody has answered in time")
	}
}
