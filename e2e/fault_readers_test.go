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

// TestFaultSlowReader causes fifty thousand events while one watcher does not read. The agent does
// not buffer them; the slow watcher gets a reset, and other watchers are not disturbed.
func TestFaultSlowReader(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "loads an agent for long")
	t.Parallel()
	const instances, before, events = 200, 10_000, 50_000
	etcd := startMember(t)
	one := startSidecar(t, "one", etcd.endpoint)
	w := &eventWriter{client: etcdtest.Client(t, etcd.endpoint), instances: instances}
	w.write(t, instances)
	within(t, time.Now(), waitTimeout, "all instances are seen", func() error { return one.count(t.Context(), "web", instances) })
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
				continue // a reader that does not read for very long is disconnected
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
	t.Logf("peak of %d MiB resident, %d MiB before; bound %d MiB", peak>>20, steady>>20, 2*steady>>20)
	if peak > 2*steady {
		t.Errorf("%d bytes resident, want at most %d", peak, 2*steady)
	}
	select {
	case e := <-reset:
		if len(e.Instances) != instances || e.Instances[0].Meta["n"] == "" {
			t.Errorf("the reset has %d instances, want %d", len(e.Instances), instances)
		}
	case <-time.After(waitTimeout):
		t.Error("the slow reader got no reset")
	}
	stop()
}

// eventWriter writes a service's records again and again, each with a number, at the pace of a
// reader that keeps up.
type eventWriter struct {
	client    *clientv3.Client
	instances int
	written   int
	lastRead  atomic.Int64 // the last number that was read
}

// write causes n events, and waits until all but the first of each instance are read.
func (w *eventWriter) write(t *testing.T, n int) {
	t.Helper()
	const batch, ahead = 100, 2000
	text := strings.Repeat("x", 500) // so that buffered events show in the memory
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
			t.Fatalf("%d events were written, %d were read", w.written, w.lastRead.Load()+1)
		}
	}
}

// follow is a reader that keeps up. After the first reset it must read every event in order.
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
			t.Errorf("the reader that keeps up reads %s %+v, want event %d", e.Type, e.Instance, next)
			return
		default:
			w.lastRead.Store(int64(next))
			next++
		}
	}
}

// memory returns the peak of a process's resident memory in bytes.
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
