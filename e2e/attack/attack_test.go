package attack_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// maxMemory returns the bound of the anonymous memory of an attacked agent, in MiB. In the long form there are
// 4,096 connections at each listener, with a buffer and two stacks each.
func maxMemory() float64 {
	switch {
	case full():
		return 512
	case raceDetector:
		return 8 * 320
	}
	return 320
}

// raceDetector is set where the code of this test has the race detector, which needs up to ten
// times the memory.
var raceDetector bool

// full reports whether to attack with as many connections as agents have in production.
func full() bool { return etcdtest.Long() && !raceDetector }

// files is the limit of open files of an agent in the short form, so that few connections fill
// its listeners: HTTP and the socket have a quarter each, DNS and gRPC an eighth.
const files = 1024

// attack is something that a stranger does to a listener.
type attack struct {
	name string
	run  func(context.Context, *target) error
	long int // lasts so many times as long; 0: once
}

// target is what is attacked: a listener of an agent, and how many connections are more than it
// takes.
type target struct {
	*agent
	connect func() (net.Conn, error) // to the listener
	many    int
}

// listener is a listener of an agent, and the attacks on it.
type listener struct {
	name    string
	connect func(*agent) (net.Conn, error)
	share   int // the part of the open files that it has is 1/share
	most    int // connections
	http2   bool
	long    bool // left out of the short form, since another listener is like it
	attacks []attack
}

func TestAttack(t *testing.T) {
	etcd := etcdtest.Start(t)
	fill(t, etcd.Endpoint())
	for _, of := range []struct {
		name      string
		tls       bool
		listeners []listener
	}{
		{"plain", false, []listener{
			{name: "HTTP", connect: (*agent).dialHTTP, share: 4, most: 4096, attacks: append(httpAttacks, nameAttacks...)},
			{name: "socket", connect: (*agent).dialSocket, share: 4, most: 4096, long: true, attacks: tlsAttacks},
			{name: "DNS", connect: (*agent).dialDNS, share: 8, most: 1024, attacks: dnsAttacks},
			{name: "gRPC", connect: (*agent).dialGRPC, share: 8, most: 256, attacks: append(frameAttacks("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"), grpcAttacks...)},
		}},
		{"encrypted", true, []listener{
			{name: "TLS", connect: (*agent).dialHTTP, share: 4, most: 4096, long: true, attacks: tlsAttacks},
			{name: "HTTP2", connect: (*agent).dialHTTP2, share: 4, most: 4096, http2: true, attacks: append(frameAttacks("/v1/lookup/few"), streamAttacks...)},
		}},
	} {
		t.Run(of.name, func(t *testing.T) {
			a := startAgent(t, etcd.Endpoint(), of.tls)
			retrytest.Eventually(t, "the agent has read the services", func() bool { return a.ask("/v1/lookup/web") == nil && a.ask("/v1/lookup/few") == nil })
			for _, l := range of.listeners {
				if l.long && !full() {
					continue
				}
				t.Run(l.name, func(t *testing.T) {
					if l.http2 && !a.offersHTTP2(t) {
						t.Log("left out: the agent does not offer HTTP/2 (built with a Go whose HTTP/2 can be made to crash)")
						return
					}
					for _, attack := range l.attacks {
						t.Run(strings.ReplaceAll(attack.name, " ", "_"), func(t *testing.T) { a.survives(t, l, attack) })
					}
				})
			}
		})
	}
}

// survives runs an attack and checks, meanwhile, that the agent answers, and how much memory it
// has.
func (a *agent) survives(t *testing.T, l listener, attack attack) {
	many := l.most
	if !full() {
		many = min(many, files/l.share)
	}
	many += many / 20
	attacked, stop := context.WithTimeout(t.Context(), *duration*time.Duration(max(attack.long, 1)))
	defer stop()
	watching, stopWatching := context.WithCancel(t.Context())
	seen := make(chan observed, 1)
	go func() { seen <- a.watch(watching) }()
	to := &target{agent: a, many: many, connect: func() (net.Conn, error) { return l.connect(a) }}
	err := attack.run(attacked, to)
	<-time.After(*duration / 4)
	stopWatching()
	saw := <-seen
	if err != nil {
		t.Errorf("the attack could not be carried out: %v", err)
	}
	t.Logf("%s: at most %.0f MiB; %d answers, the slowest after %v", attack.name, saw.memory, saw.answers, saw.slowest.Round(time.Millisecond))
	if bound := maxMemory(); saw.memory > bound {
		t.Errorf("the agent has %.0f MiB of anonymous memory; at most %.0f are allowed", saw.memory, bound)
	}
	for _, err := range saw.failed {
		t.Errorf("meanwhile: %v", err)
	}
	select {
	case <-a.ended:
		t.Fatalf("the agent has ended: %s", a.lastWords())
	default:
	}
}

// answerTime is the time that the agent has for each answer while it is attacked. It must not
// depend on how fast the machine is, so it is long.
const answerTime = 15 * time.Second

// observed is what was seen of an agent during an attack.
type observed struct {
	memory  float64 // the most anonymous memory, in MiB
	answers int
	slowest time.Duration
	failed  []error
}

// watch asks for health and lookups, each over a new connection, until ctx ends, and at least
// once. It samples the memory in between.
func (a *agent) watch(ctx context.Context) (o observed) {
	sampled := make(chan float64, 1)
	sampling, stop := context.WithCancel(context.Background())
	go func() { sampled <- a.sampleMemory(sampling) }()
	for first := true; first || ctx.Err() == nil; first = false {
		for _, path := range []string{"/healthz", "/v1/lookup/web", "/v1/lookup/few?zone=eu-west-1a"} {
			began := time.Now()
			if err := a.ask(path); err != nil {
				o.failed = append(o.failed, err)
			} else {
				o.answers++
			}
			o.slowest = max(o.slowest, time.Since(began))
		}
		if err := a.askDNS(); err != nil {
			o.failed = append(o.failed, err)
		}
		if len(o.failed) > 0 {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	stop()
	o.memory = <-sampled
	return o
}

// TestHTTP2IsNotOfferedByFaultyGo checks the program against the version of Go in it.
func TestHTTP2IsNotOfferedByFaultyGo(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint(), true)
	offered := a.offersHTTP2(t)
	log, err := os.ReadFile(a.log)
	if err != nil {
		t.Fatal(err)
	}
	if said := strings.Contains(string(log), "HTTP/2 is not offered"); said == offered {
		t.Errorf("HTTP/2 is offered: %v; the log says that it is not: %v", offered, said)
	}
	if err := a.ask("/healthz"); err != nil {
		t.Error(err)
	}
}
