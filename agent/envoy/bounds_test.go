package envoy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"disc/discovery/retry/retrytest"
)

// serveBounded serves a fleet with bounds that set changes.
func serveBounded(t *testing.T, f *fleet, set func(*bounds), o ...grpc.DialOption) *served {
	t.Helper()
	s, err := New(f, Options{Domain: "disc."})
	if err != nil {
		t.Fatal(err)
	}
	set(&s.bounds)
	return serveServer(t, s, o...)
}

func TestStreamsAreBoundedInAll(t *testing.T) {
	s := serveBounded(t, pair(t), func(b *bounds) { b.streams = 2 })
	first := s.ads(t)
	first.ask("a")
	first.next("a", "")
	second := s.eds(t)
	second.ask("a")
	second.next("a", "")
	third := s.ads(t)
	_, err := third.stream.Recv()
	wantCode(t, err, codes.ResourceExhausted, "the agent has 2 streams open")
	first.cancel()
	retrytest.Eventually(t, "the place of the first is free", func() bool {
		again := s.ads(t)
		if err := again.stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: typeURL, ResourceNames: []string{"a"}}); err != nil {
			return false
		}
		_, err := again.stream.Recv()
		return err == nil
	})
}

func TestNamesAreBoundedInAll(t *testing.T) {
	s := serveBounded(t, pair(t), func(b *bounds) { b.names = 4 * (nameOverhead + 1) })
	first, second := s.ads(t), s.ads(t)
	first.ask("a", "b")
	first.next("a", "", "b", "")
	second.ask("a", "b", "c")
	_, err := second.stream.Recv()
	wantCode(t, err, codes.ResourceExhausted, "the names of 3 clusters are too many beside those of all other streams")
	first.ask("b")
	first.next("b", "")
	third := s.ads(t)
	third.ask("a")
	third.next("a", "")
	// A name counts with its length, too.
	fourth := s.ads(t)
	fourth.ask(strings.Repeat("x", 300))
	_, err = fourth.stream.Recv()
	wantCode(t, err, codes.ResourceExhausted, "the names of 1 clusters")
}

// What an incremental stream was sent, and what it says that it has, counts also without an
// acknowledgement.
func TestVersionsAreBoundedInAll(t *testing.T) {
	s := serveBounded(t, pair(t), func(b *bounds) { b.names = nameOverhead })
	all := s.delta(t)
	all.ask("*")
	if _, err := all.stream.Recv(); err != nil {
		t.Fatal(err)
	}
	_, err := all.stream.Recv()
	wantCode(t, err, codes.ResourceExhausted, "the names of 2 clusters are too many")

	s = serveBounded(t, pair(t), func(b *bounds) { b.names = 4 * nameOverhead })
	again := s.delta(t)
	again.send(&discoveryv3.DeltaDiscoveryRequest{
		ResourceNamesSubscribe: []string{"a"}, InitialResourceVersions: map[string]string{"a": strings.Repeat("1", 300)},
	})
	_, err = again.stream.Recv()
	wantCode(t, err, codes.ResourceExhausted, "the names of 2 clusters are too many")
}

// A client that does not read keeps the room of its response, until others wait for that.
func TestUnreadResponsesAreBounded(t *testing.T) {
	f := pair(t)
	s := serveBounded(t, f, func(b *bounds) { b.unread, b.readTime = 64<<10, 200*time.Millisecond }, grpc.WithInitialWindowSize(65535))
	names := make([]string, 8000) // a response of about 1 MiB
	for n := range names {
		names[n] = fmt.Sprint("c", n)
	}
	slow := s.ads(t)
	slow.ask(names...)
	retrytest.Eventually(t, "the response is made", func() bool { return value(t, s.metrics.responses) == 1 })

	other := &served{s.Server, connect(t, s.conn.Target()), s.stop}
	k := other.ads(t)
	k.ask("a")
	k.next("a", "") // once the slow client has lost its connection
	retrytest.Eventually(t, "the slow client's stream has ended", func() bool { return value(t, s.metrics.streams) == 1 })
}

// A request of very many names is not decoded as a whole.
func TestDecodedNamesAreBounded(t *testing.T) {
	var b, versions []byte
	for range 2 * MaxClusters {
		b = appendString(b, 3, "x")
		versions = protowire.AppendBytes(protowire.AppendTag(versions, 5, protowire.BytesType), appendString(nil, 1, fmt.Sprint(len(versions))))
	}
	var r request
	if err := r.decode(b); err != nil || len(r.names) != MaxClusters+1 {
		t.Errorf("%d names, %v", len(r.names), err)
	}
	var d deltaRequest
	if err := d.decode(append(b, versions...)); err != nil || len(d.subscribe) != MaxClusters+1 || len(d.versions) != MaxClusters+1 {
		t.Errorf("%d names, %d versions, %v", len(d.subscribe), len(d.versions), err)
	}
	var descriptors, entries []byte
	for range 1000 {
		descriptors = protowire.AppendBytes(protowire.AppendTag(descriptors, 2, protowire.BytesType), nil)
		entries = protowire.AppendBytes(protowire.AppendTag(entries, 1, protowire.BytesType), nil)
	}
	var limit rateLimitRequest
	if err := limit.decode(descriptors); err != nil || len(limit.descriptors) != MaxDescriptors+1 {
		t.Errorf("%d descriptors, %v", len(limit.descriptors), err)
	}
	var one descriptor
	if err := one.decode(entries); err != nil || len(one.entries) != maxEntries+1 {
		t.Errorf("%d entries, %v", len(one.entries), err)
	}
}

// The name of a node goes into the log once, and not whole.
func TestNodesDoNotFillMemory(t *testing.T) {
	s := serve(t, pair(t))
	st := &stream{Server: s.Server, log: s.log}
	for range 3 {
		if _, err := st.accepts(head{node: strings.Repeat("n", 100_000), typeURL: typeURL}); err != nil {
			t.Fatal(err)
		}
	}
	if first := st.log; !st.named || len(shorten(strings.Repeat("n", 100_000))) != maxLogged {
		t.Errorf("log %v", first)
	}
}
