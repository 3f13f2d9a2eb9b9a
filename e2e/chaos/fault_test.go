package chaos_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
)

// fault is a fault of one target.
type fault struct {
	target string // a target has one fault at a time
	name   string
	cause  func()
	heal   func() // nil: the fault ends by itself at once
}

// faults returns all faults that the test may cause.
func faults(etcd *etcdtest.Cluster, client *clientv3.Client, agents []*agent) []fault {
	all := []fault{{"history", "etcd is compacted", func() { compact(client) }, nil}}
	for _, m := range etcd.Members {
		all = append(all,
			fault{m.Name, "is killed", m.Kill, m.Start},
			fault{m.Name, "is paused", m.Pause, m.Continue},
			fault{m.Name, "vanishes from the network", m.Vanish, m.Return},
			fault{m.Name, "is cut off from the other members", m.Part, m.Join},
			fault{m.Name, "loses its clients' connections", m.Disconnect, nil})
	}
	for _, a := range agents {
		all = append(all,
			fault{a.name, "is killed", a.kill, a.start},
			fault{a.name, "is paused", func() { a.signal(syscall.SIGSTOP) }, func() { a.signal(syscall.SIGCONT) }},
			fault{a.name, "is cut off from etcd", a.cutOff, a.mend})
	}
	return all
}

// compact compacts etcd up to the current revision, unless etcd is unavailable.
func compact(client *clientv3.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if now, err := client.Get(ctx, "revision"); err == nil {
		client.Compact(ctx, now.Header.Revision) // an error leaves etcd as it is
	}
}

const (
	maxFaults = 3               // at once
	maxStep   = 2 * time.Second // greatest time between two steps
)

// injectFaults causes and heals faults for length, and heals the rest at the end.
func injectFaults(t *testing.T, random *rand.Rand, all []fault, length time.Duration) {
	t.Helper()
	begun := time.Now()
	var present []fault
	heal := func(n int) {
		f := present[n]
		t.Logf("%5.1f s: %s: over: %s", time.Since(begun).Seconds(), f.target, f.name)
		f.heal()
		present = slices.Delete(present, n, n+1)
	}
	for time.Since(begun) < length {
		f := all[random.IntN(len(all))]
		if n := slices.IndexFunc(present, func(p fault) bool { return p.target == f.target }); n >= 0 {
			heal(n)
		} else if len(present) == maxFaults {
			heal(random.IntN(maxFaults))
		} else {
			t.Logf("%5.1f s: %s: %s", time.Since(begun).Seconds(), f.target, f.name)
			f.cause()
			if f.heal != nil {
				present = append(present, f)
			}
		}
		<-time.After(time.Duration(random.Int64N(int64(maxStep))))
	}
	for len(present) > 0 {
		heal(0)
	}
}
