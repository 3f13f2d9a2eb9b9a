package agent

import (
	"context"
	"net"
	"testing"
)

func TestProbe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
