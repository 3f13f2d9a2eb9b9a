package e2e_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"disc/agent/api"
)

// partition is a fleet whose host "one" can be cut off from etcd and from its peer.
type partition struct {
	host      *namespace
	one, peer *sidecar
	watch     *process // of the peer
}

func startPartition(t *testing.T, settings ...string) *partition {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft (apt-get install nftables): ", err)
	}
	rest, p := newNamespace(t), &partition{host: newNamespace(t)}
	rest.link(t, p.host)
	etcd := startMemberAt(t, rest.prefix, "10.77.0.1:2379", "10.77.0.1:2380")
	p.peer = startSidecarThrough(t, rest.prefix, "peer", etcd.endpoint)
	p.one = startSidecarThrough(t, p.host.prefix, "one", etcd.endpoint, settings...)
	p.one.register(t, "web", "web-1")
	p.peer.register(t, "web", "web-2")
	p.one.find(t, "web", "web-1", "web-2")
	p.peer.find(t, "web", "web-1", "web-2")
	p.watch = p.peer.follow(t, "web")
	return p
}

// TestFaultPartition cuts an agent's host off from etcd and its peer, for less and for more than
// its TTL.
func TestFaultPartition(t *testing.T) {
	t.Parallel()
	t.Run("for less than the TTL nothing changes", func(t *testing.T) {
		t.Parallel()
		const ttl, off = 15 * time.Second, 4 * time.Second // the rest of the TTL is for a slow machine
		p := startPartition(t, "session: {ttl: "+ttl.String()+"}")
		lease, before := p.one.lease(t), p.one.resyncs(t)
		peers, own := p.peer.steady(t, "web", "web-1", "web-2"), p.one.steady(t, "web", "web-1", "web-2")
		p.host.cut(t)
		pause(off)
		p.host.heal(t)
		healed := time.Now()
		within(t, healed, ttl/3, "the lease is kept alive again", func() error {
			status, err := p.one.Agent(t.Context())
			if ago := time.Duration(status.Session.LastKeepalive); err == nil && ago > time.Since(healed) {
				err = fmt.Errorf("the last keepalive was %v ago", ago)
			}
			return err
		})
		peers()
		own()
		p.peer.register(t, "web", "web-3") // its event comes after every event of the cut
		p.one.find(t, "web", "web-1", "web-2", "web-3")
		if now := p.one.lease(t); now != lease {
			t.Errorf("the lease was %s and is %s", lease, now)
		}
		if !await(func() bool { return strings.Contains(p.watch.output.String(), "web-3") }) || strings.Contains(p.watch.output.String(), `"event":"delete"`) {
			t.Errorf("the peer's watch:\n%s", p.watch.output.String())
		}
		t.Logf("%d resyncs after the cut", p.one.resyncs(t)-before)
	})
	t.Run("for more than the TTL its instance is dropped and comes back", func(t *testing.T) {
		t.Parallel()
		p := startPartition(t, "catalog: {stale_after: 5s}")
		own := p.one.steady(t, "web", "web-1", "web-2")
		p.host.cut(t)
		off := time.Now()
		within(t, off, ttl+2*time.Second, "the peer drops its instance", func() error { return p.peer.answers(t.Context(), "web", "web-2") })
		within(t, off, 5*time.Second+2*time.Second, "its own answers say that they are stale", func() error { return p.one.stale(t) })
		own() // meanwhile all were answered
		p.host.heal(t)
		healed := time.Now()
		within(t, healed, 5*time.Second, "the peer has the instance again", func() error { return p.peer.answers(t.Context(), "web", "web-1", "web-2") })
		within(t, healed, 5*time.Second, "its own answers are fresh", func() error {
			if p.one.stale(t) == nil {
				return errors.New("the answer is still stale")
			}
			return p.one.answers(t.Context(), "web", "web-1", "web-2")
		})
	})
}

// stale returns an error unless a lookup is answered and says that its view is stale.
func (s *sidecar) stale(t *testing.T) error {
	t.Helper()
	_, view, err := s.Lookup(t.Context(), "web", api.LookupOptions{})
	if err == nil && !view.Stale {
		err = fmt.Errorf("the view is %v old and not stale", view.Age)
	}
	return err
}

func (s *sidecar) resyncs(t *testing.T) int {
	t.Helper()
	status, err := s.Agent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Catalog.Resyncs
}
