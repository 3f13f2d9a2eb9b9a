package envoy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery"
	"disc/discovery/retry/retrytest"
)

const (
	one = "=1: 10.0.0.1 1 HEALTHY 1"
	two = "=2: 10.0.0.1 1 HEALTHY 1, 10.0.0.1 2 HEALTHY 1"
)

// pair has web at two ports and db at one.
func pair(t *testing.T) *fleet {
	return newFleet(t, "web/instances/web-1", `"port":1`, "web/instances/web-2", `"port":2`, "db/instances/db-1", `"port":1`)
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetGauge().GetValue() + d.GetCounter().GetValue()
}

func wantCode(t *testing.T, err error, want codes.Code, text string) {
	t.Helper()
	if status.Code(err) != want || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want %v with %q", err, want, text)
	}
}

func TestAnInstanceDies(t *testing.T) {
	f := pair(t)
	for name, open := range map[string]func(*served, *testing.T) *talk{"ADS": (*served).ads, "EDS": (*served).eds} {
		t.Run(name, func(t *testing.T) {
			k := open(serve(t, f), t)
			k.ask("web")
			k.next("web", two)
			first := k.last.VersionInfo
			k.ask("web")
			f.put(t, "db/instances/db-1", `"port":7`) // not of its cluster
			f.delete(t, "web/instances/web-2")
			k.next("web", one)
			if k.last.VersionInfo == first || !strings.HasPrefix(k.last.VersionInfo, fmt.Sprint(f.snapshot().Revision())+"-") {
				t.Errorf("version %s after %s", k.last.VersionInfo, first)
			}
			f.put(t, "web/instances/web-2", `"port":2`) // without waiting for an acknowledgement
			k.next("web", two)
		})
	}
}

// A refusal changes nothing: what was refused is not sent again, and the next change is.
func TestRefusal(t *testing.T) {
	f, log := pair(t), &lines{}
	s := serve(t, f)
	s.log = slog.New(slog.NewTextHandler(log, nil))
	k := s.ads(t)
	k.send(&discoveryv3.DiscoveryRequest{TypeUrl: typeURL, ResourceNames: []string{"web"}, Node: &corev3.Node{Id: "envoy-7"}})
	k.next("web", two)
	accepted := k.last.VersionInfo
	k.ask("web")
	f.delete(t, "web/instances/web-2")
	k.next("web", one)
	k.refuse(accepted, "web")
	k.refuse(accepted, "web")
	retrytest.Eventually(t, "the refusal is counted", func() bool { return value(t, s.metrics.nacks) == 1 })
	f.put(t, "web/instances/web-2", `"port":2,"weight":2`)
	k.next("web", "=3: 10.0.0.1 1 HEALTHY 1, 10.0.0.1 2 HEALTHY 2")
	k.ask("web")
	k.ask("web", "db") // is answered after both refusals were read
	k.next("db", one, "web", "=3: 10.0.0.1 1 HEALTHY 1, 10.0.0.1 2 HEALTHY 2")
	text := log.String()
	if strings.Count(text, "refuses") != 1 || !strings.Contains(text, "node=envoy-7") || !strings.Contains(text, "error=malformed") {
		t.Errorf("log:\n%s", text)
	}
}

func TestSubscriptionChanges(t *testing.T) {
	f := pair(t)
	k := serve(t, f).ads(t)
	k.ask("web", "nosuch", "web")
	k.next("nosuch", "", "web", two)
	k.ask("db", "nosuch")
	k.next("db", one, "nosuch", "")
	f.delete(t, "web/instances/web-2") // not asked for any more
	f.put(t, "nosuch/instances/n-1", `"port":1`)
	k.next("db", one, "nosuch", one)
	k.ask() // asks for nothing any more
	k.ask("db", "nosuch")
	k.last.VersionInfo = "" // it may be the same: a client that comes back is answered
	k.next("db", one, "nosuch", one)
}

// A request that refers to a response before the last is ignored.
func TestLateRequests(t *testing.T) {
	f := pair(t)
	k := serve(t, f).ads(t)
	k.ask("web")
	k.next("web", two)
	late := k.last
	f.delete(t, "web/instances/web-2")
	k.next("web", one)
	k.send(&discoveryv3.DiscoveryRequest{TypeUrl: typeURL, ResourceNames: []string{"late"}, VersionInfo: late.VersionInfo, ResponseNonce: late.Nonce})
	k.ask("web", "db")
	k.next("db", one, "web", one)
}

func TestAllServices(t *testing.T) {
	for _, names := range [][]string{nil, {"*"}, {"*", "nosuch"}} {
		t.Run(fmt.Sprint(names), func(t *testing.T) {
			f := pair(t)
			k := serve(t, f).ads(t)
			extra := []string{}
			if len(names) == 2 {
				extra = []string{"nosuch", ""}
			}
			k.ask(names...)
			k.next(slices.Concat([]string{"db", one}, extra, []string{"web", two})...)
			k.ask(names...)
			f.delete(t, "db/instances/db-1")
			k.next(slices.Concat(extra, []string{"web", two})...)
			f.put(t, "new/instances/n-1", `"port":1`)
			k.next(slices.Concat([]string{"new", one}, extra, []string{"web", two})...)
			k.ask("web")
			k.next("web", two)
		})
	}
}

// Before there is a view there is no response: an empty one would end the traffic.
func TestNoViewYet(t *testing.T) {
	f := pair(t)
	f.fail(discovery.Errorf(discovery.ErrUnavailable, "no view yet"))
	s := serve(t, f)
	k := s.ads(t)
	k.ask("web")
	retrytest.Eventually(t, "the stream is open", func() bool { return value(t, s.metrics.streams) == 1 })
	f.fail(nil)
	k.next("web", two)
	if sent := value(t, s.metrics.responses); sent != 1 {
		t.Errorf("%v responses, want 1", sent)
	}
}

func TestOtherTypes(t *testing.T) {
	const clusters = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	f, log := pair(t), &lines{}
	s := serve(t, f)
	s.log = slog.New(slog.NewTextHandler(log, nil))
	k := s.ads(t)
	for range 2 { // an aggregated stream may ask for others
		k.send(&discoveryv3.DiscoveryRequest{TypeUrl: clusters})
	}
	k.ask("web")
	k.next("web", two)
	if text := log.String(); strings.Count(text, clusters) != 1 {
		t.Errorf("log:\n%s", text)
	}
	k.send(&discoveryv3.DiscoveryRequest{ResourceNames: []string{"web"}})
	_, err := k.stream.Recv()
	wantCode(t, err, codes.InvalidArgument, `type_url "" is not served here`)

	k = s.eds(t)
	k.send(&discoveryv3.DiscoveryRequest{ResourceNames: []string{"web"}})
	k.next("web", two)
	k.send(&discoveryv3.DiscoveryRequest{TypeUrl: clusters})
	_, err = k.stream.Recv()
	wantCode(t, err, codes.InvalidArgument, "is not served here")
}

func TestTooManyClusters(t *testing.T) {
	k := serve(t, pair(t)).ads(t)
	names := make([]string, MaxClusters+1)
	for n := range names {
		names[n] = fmt.Sprint("c", n)
	}
	k.ask(names...)
	_, err := k.stream.Recv()
	wantCode(t, err, codes.ResourceExhausted, "10001 clusters are too many")
}

func TestStreamsEnd(t *testing.T) {
	f := pair(t)
	s := serve(t, f)
	closed, gone, open := s.ads(t), s.ads(t), s.ads(t)
	for _, k := range []*talk{closed, gone, open} {
		k.ask("web")
		k.next("web", two)
	}
	if err := closed.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := closed.stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the stream's end", err)
	}
	gone.cancel()
	retrytest.Eventually(t, "two streams have ended", func() bool { return value(t, s.metrics.streams) == 1 })
	s.stop()
	_, err := open.stream.Recv()
	wantCode(t, err, codes.Unavailable, "the agent is stopping")
}

// A client that does not read does not delay the end of the server.
func TestReaderThatDoesNotRead(t *testing.T) {
	s := serve(t, pair(t), grpc.WithInitialWindowSize(65535))
	s.shutdownTimeout = 0
	k := s.ads(t)
	names := make([]string, MaxClusters-1)
	for n := range names {
		names[n] = fmt.Sprint("c", n)
	}
	for range 2 {
		k.ask(names...)
		k.ask(append(names, "web")...)
	}
	retrytest.Eventually(t, "two responses are made", func() bool { return value(t, s.metrics.responses) > 1 })
	s.stop()
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	registry := prometheus.NewRegistry()
	if _, err := New(pair(t), Options{Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	if _, err := New(pair(t), Options{Registerer: registry}); err == nil {
		t.Error("metrics were registered twice")
	}
}

// lines is a log for concurrent use.
type lines struct {
	lock sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.String()
}
