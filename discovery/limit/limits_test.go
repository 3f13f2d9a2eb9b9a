package limit

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var keys = discovery.NewKeys("default")

// start runs an agent's limits until the test ends.
func start(t testing.TB, client *clientv3.Client, m *Metrics) *Limits {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := New(client, keys, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), Metrics: m})
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

// alone runs limits on an etcd of their own.
func alone(t testing.TB) *Limits {
	t.Helper()
	return start(t, etcdtest.Client(t, etcdtest.Start(t).Endpoint()), nil)
}

func mustPut(t testing.TB, l *Limits, name string, limit discovery.Limit) {
	t.Helper()
	if _, _, err := l.Put(t.Context(), name, limit); err != nil {
		t.Fatal(err)
	}
}

// mustGet takes until it is granted.
func mustGet(t testing.TB, l *Limits, name string, n int64) discovery.Decision {
	t.Helper()
	var d discovery.Decision
	until(t, "a token of "+name, func() bool {
		var err error
		if d, err = l.Take(t.Context(), name, n); err != nil {
			t.Fatal(err)
		}
		return d.Granted
	})
	return d
}

func TestTake(t *testing.T) {
	l := alone(t)
	mustPut(t, l, "api", policy(50, 50))
	mustGet(t, l, "api", 20)
	mustPut(t, l, "api", policy(40, 50))
	d := mustGet(t, l, "api", 20)
	if d.Limit.Rate != 40 || d.Unavailable || d.Full <= 0 {
		t.Errorf("granted with %+v", d)
	}
}

func TestRefused(t *testing.T) {
	l := alone(t)
	mustPut(t, l, "api", policy(50, 50))
	for _, c := range []struct {
		name string
		n    int64
		want error
		text string
	}{
		{"api", 0, discovery.ErrInvalid, "0 tokens cannot be taken"},
		{"api", 51, discovery.ErrInvalid, "only up to 37"},
		{"no/name", 1, discovery.ErrInvalid, "limit name"},
		{"none", 1, discovery.ErrNotFound, "there is no limit none"},
	} {
		for range 2 { // what is not there is remembered
			if _, err := l.Take(t.Context(), c.name, c.n); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("take %d of %s: %v, want %q", c.n, c.name, err, c.text)
			}
		}
	}
	mustPut(t, l, "none", policy(50, 50))
	mustGet(t, l, "none", 1)
	if _, err := l.Delete(t.Context(), "none"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Take(t.Context(), "none", 1); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("take of what was removed: %v", err)
	}
}

func TestGrantedTakeAllocatesNothing(t *testing.T) {
	l := alone(t)
	mustPut(t, l, "api", policy(unreached, unreached))
	handful(t, l, "api", 5000)
	if n := testing.AllocsPerRun(1000, func() {
		if d, err := l.Take(context.Background(), "api", 1); err != nil || !d.Granted {
			t.Fatal(d, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// unreached is a rate that no test reaches.
const unreached = 900_000

// handful puts tokens into the hand of an agent, good for an hour.
func handful(t testing.TB, l *Limits, name string, n int64) {
	t.Helper()
	mustGet(t, l, name, 1)
	b := (*l.buyers.Load())[name]
	b.change(func(now time.Duration) { b.account.hand.add(n, now+time.Hour) })
}
