package e2e_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/view"
)

// TestFaultSlowReader has fifty thousand events happen while one who watches does not
// read: nothing piles up for him, he is told to start over, and nobody else notices.
func TestFaultSlowReader(t *testing.T) {
	t.Parallel()
	const instances, before, events = 200, 10_000, 50_000
	etcd := startMember(t)
	one := startSidecar(t, "one", etcd.endpoint)
	w := &eventWriter{client: etcdtest.Client(t, etcd.endpoint), instances: instances}
	w.write(t, instances)
	within(t, time.Now(), waitTimeout, "all are seen", func() error { return one.count(t.Context(), "web", instances) })
	stop := one.steadyCount(t, "web", instances)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var reading sync.WaitGroup
	follows := make(chan struct{})
	reading.Go(func() { w.follow(ctx, t, one, follows) })
	<-follows
	t.Cleanup(reading.Wait)
	w.write(t, before)
	steady := one.memory(t)

	slow := one.Watch(ctx, "web", "")
	began, written, reset := make(chan struct{}), make(chan struct{}), make(chan api.Event)
	reading.Go(func() {
		resets := 0
		for e, err := range slow {
			if err != nil || e.Type != api.EventReset {
				continue // he is dropped if he does not read for very long
			}
			if resets++; resets == 1 {
				close(began)
				<-written
				continue
			}
			reset <- e
			return
		}
	})
	<-began
	w.write(t, events)
	peak := one.memory(t)
	close(written)
	t.Logf("at most %d MiB resident, %d MiB before; bound %d MiB", peak>>20, steady>>20, 2*steady>>20)
	if peak > 2*steady {
		t.Errorf("%d bytes resident, want at most %d", peak, 2*steady)
	}
	select {
	case e := <-reset:
		if len(e.Instances) != instances || e.Instances[0].Meta["n"] == "" {
			t.Errorf("he starts over with %d instances, want %d", len(e.Instances), instances)
		}
	case <-time.After(waitTimeout):
		t.Error("the slow reader was not told to start over")
	}
	stop()
}

// eventWriter writes a service's records again and again, each with a number, no
// faster than one reads who keeps up.
type eventWriter struct {
	client    *clientv3.Client
	instances int
	written   int
	lastRead  atomic.Int64 // the number that was read last
}

// write makes n events, and waits until all but the first of each instance are read.
func (w *eventWriter) write(t *testing.T, n int) {
	t.Helper()
	const batch, ahead = 100, 2000
	text := strings.Repeat("x", 500) // so that what piles up is seen
	for end := w.written + n; w.written < end; {
		var puts []clientv3.Op
		for range batch {
			id := fmt.Sprintf("web-%03d", w.written%w.instances)
			record := fmt.Sprintf(`{"service":"web","id":%q,"node":"n1","address":"10.0.0.5","port":80,"tags":["v1"],"meta":{"n":"%d","text":%q}}`, id, w.written, text)
			puts = append(puts, clientv3.OpPut(fleetKeys.Instance("web", id), record))
			w.written++
		}
		if _, err := w.client.Txn(t.Context()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
		behind := ahead
		if w.written >= end {
			behind = 1
		}
		if !await(func() bool { return w.written <= w.instances || w.written-int(w.lastRead.Load()) <= behind }) {
			t.Fatalf("%d events are written, %d are read", w.written, w.lastRead.Load()+1)
		}
	}
}

// follow is a reader that keeps up: once it has begun, it hears every event, in order.
func (w *eventWriter) follow(ctx context.Context, t *testing.T, s *sidecar, began chan<- struct{}) {
	next, begun := w.instances, false
	for e, err := range s.Watch(ctx, "web", "") {
		switch {
		case err != nil:
			t.Errorf("the reader that keeps up: %v", err)
			return
		case e.Type == api.EventReset && !begun:
			close(began)
			begun = true
		case e.Type != view.EventPut || e.Instance.Meta["n"] != strconv.Itoa(next):
			t.Errorf("the reader that keeps up gets %s %+v, want the event %d", e.Type, e.Instance, next)
			return
		default:
			w.lastRead.Store(int64(next))
			next++
		}
	}
}

// memory is the most that a process has had resident, in bytes.
func (p *process) memory(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(b)
	if found == nil {
		t.Fatalf("no VmHWM in %s", b)
	}
	kib, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
