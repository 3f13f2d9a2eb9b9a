package attack_test

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
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
	case etcdtest.RaceDetector:
		return 8 * 320
	}
	return 320
}

// full reports whether to attack with as many connections as agents have in production.
func full() bool { return etcdtest.Long() && !etcdtest.RaceDetector }

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
	did     atomic.Int64 // connections or streams that were opened, requests or frames that were sent
}

// listener is a listener of an agent, and the attacks on it.
type listener struct {
	name    string
	connect func(*agent) (net.Conn, error)
	share   int // the part of the open files that it has is 1/share
	most    int // connections
	http2   bool
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
			{name: "socket", connect: (*agent).dialSocket, share: 4, most: 4096, attacks: tlsAttacks},
			{name: "DNS", connect: (*agent).dialDNS, share: 8, most: 1024, attacks: dnsAttacks},
			{name: "gRPC", connect: (*agent).dialGRPC, share: 8, most: 256, attacks: append(frameAttacks("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"), grpcAttacks...)},
		}},
		{"encrypted", true, []listener{
			{name: "TLS", connect: (*agent).dialHTTP, share: 4, most: 4096, attacks: tlsAttacks},
			{name: "HTTP2", connect: (*agent).dialHTTP2, share: 4, most: 4096, http2: true, attacks: append(frameAttacks("/v1/lookup/few"), streamAttacks...)},
		}},
	} {
		t.Run(of.name, func(t *testing.T) {
			a := startAgent(t, etcd.Endpoint(), of.tls)
			retrytest.Eventually(t, "the agent has read the services", func() bool { return a.ask("/v1/lookup/web") == nil && a.ask("/v1/lookup/few") == nil })
			idle := a.idle(t)
			for _, l := range of.listeners {
				t.Run(l.name, func(t *testing.T) {
					if l.http2 && !a.offersHTTP2(t) {
						t.Log("left out: the agent does not offer HTTP/2 (built with a Go whose HTTP/2 can be made to crash)")
						return
					}
					var all observed
					for _, attack := range l.attacks {
						t.Run(strings.ReplaceAll(attack.name, " ", "_"), func(t *testing.T) { all.add(a.survives(t, l, attack)) })
					}
					all.judge(t, idle)
				})
			}
		})
	}
}

// survives runs an attack and checks, meanwhile, that the agent answers, and how much memory it
// has. It returns what was seen.
func (a *agent) survives(t *testing.T, l listener, attack attack) observed {
	t.Helper()
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
	if to.did.Load() == 0 {
		t.Error("the attack did nothing: no connection or stream was opened, or nothing could be sent")
	}
	t.Logf("%s: %d times; at most %.0f MiB; %d answers, the slowest after %v; %d refused", attack.name, to.did.Load(), saw.memory, saw.answers, saw.slowest.Round(time.Millisecond), saw.refused)
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
	return saw
}

// answerTime is the time that the agent has for each answer while it is attacked. It must not
// depend on how fast the machine is, so it is long.
const answerTime = 15 * time.Second

// observed is what was seen of an agent during an attack, or several.
type observed struct {
	memory  float64 // the most anonymous memory, in MiB
	answers int
	slowest time.Duration
	failed  []error

	computed, refused int             // lookups whose answer has to be computed
	health            []time.Duration // until each answer of /healthz
	control           []time.Duration // until each answer of the control, at the same times
}

// add adds what was seen during one more attack, as far as judge needs that.
func (o *observed) add(more observed) {
	o.computed += more.computed
	o.refused += more.refused
	o.health = append(o.health, more.health...)
	o.control = append(o.control, more.control...)
}

// judge checks what one attack is too short to show: that the agent has not refused all that it
// may refuse, and that /healthz is fast most of the time, measured by how fast it is when idle, and by how fast a server
// that nobody attacks is meanwhile: the attacks and other programs slow down all on the machine.
func (o *observed) judge(t *testing.T, idle time.Duration) {
	t.Helper()
	if o.refused > 0 && o.computed == 0 {
		t.Errorf("all %d lookups whose answer has to be computed were refused", o.refused)
	}
	if len(o.health) < 5 {
		return // only few attacks were chosen
	}
	usual, control := median(o.health), median(o.control)
	bound := max(time.Second, 100*idle, 10*control)
	t.Logf("/healthz answers after %v, when idle after %v, and the control after %v (medians); %d lookups were computed, %d refused", usual, idle, control, o.computed, o.refused)
	if usual > bound {
		t.Errorf("/healthz answers after %v (median); at most %v are allowed", usual, bound)
	}
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// idle returns after what time /healthz usually answers, over a new connection.
func (a *agent) idle(t *testing.T) time.Duration {
	t.Helper()
	var times []time.Duration
	for range 11 {
		began := time.Now()
		if err := a.ask("/healthz"); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	return median(times)
}

// watch asks for health and lookups, each over a new connection, until ctx ends, and at least
// once. It samples the memory in between. A lookup whose answer has to be computed may be refused,
// but not kept waiting.
func (a *agent) watch(ctx context.Context) (o observed) {
	const health, computed = "/healthz", "/v1/lookup/few?zone=eu-west-1a"
	sampled := make(chan float64, 1)
	sampling, stop := context.WithCancel(context.Background())
	go func() { sampled <- a.sampleMemory(sampling) }()
	for first := true; first || ctx.Err() == nil; first = false {
		for _, path := range []string{health, "/v1/lookup/web", computed} {
			began := time.Now()
			err := a.ask(path)
			took := time.Since(began)
			o.slowest = max(o.slowest, took)
			switch {
			case path == computed && errors.Is(err, errRefused):
				o.refused++
				continue
			case err != nil:
				o.failed = append(o.failed, err)
				continue
			case path == computed:
				o.computed++
			case path == health:
				o.health = append(o.health, took)
			}
			o.answers++
		}
		began := time.Now()
		if err := a.get(a.control.URL, "control"); err != nil {
			o.failed = append(o.failed, err)
		}
		o.control = append(o.control, time.Since(began))
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
