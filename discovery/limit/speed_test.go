package limit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"disc/discovery/devetcd/etcdtest"
)

// BenchmarkTake measures a take that is granted from tokens that were bought.
func BenchmarkTake(b *testing.B) {
	l := startAlone(b)
	putSlow(b, l, "api")
	stockTokens(b, l, "api", 1<<40)
	b.ReportAllocs()
	for b.Loop() {
		if d, err := l.Take(context.Background(), "api", 1); err != nil || !d.Granted {
			b.Fatal(d, err)
		}
	}
}

// BenchmarkDenied measures a take that is denied from memory.
func BenchmarkDenied(b *testing.B) {
	l := startAlone(b)
	putSlow(b, l, "api")
	b.ReportAllocs()
	for b.Loop() {
		if d, err := l.Take(context.Background(), "api", 1); err != nil || d.Granted {
			b.Fatal(d, err)
		}
	}
}

// BenchmarkFleet lets agents take more than a limit allows for 10 s. It reports the part of
// the limit that they got, and the purchases a second.
func BenchmarkFleet(b *testing.B) {
	for _, c := range []struct {
		agents       int
		rate, demand float64 // demand: as a multiple of the rate
	}{
		{1, 1, 20}, {20, 1, 40}, {4, 50, 1.5}, {4, 50, 10}, {20, 1000, 1.5}, {20, 1000, 5},
		{100, 1000, 1.5}, {100, 1000, 2}, {100, 1000, 5}, {1, 1000, 5},
	} {
		b.Run(fmt.Sprintf("agents=%d/rate=%g/demand=%g", c.agents, c.rate, c.demand), func(b *testing.B) {
			server := etcdtest.Start(b)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			var takers sync.WaitGroup
			var granted atomic.Int64
			var agents []*Limits
			for n := range c.agents {
				l := start(b, etcdtest.Client(b, server.Endpoint()))
				agents = append(agents, l)
				if n == 0 {
					mustPut(b, l, "x", policy(c.rate, max(1, int64(c.rate))))
				}
				takers.Go(func() { takeEvery(ctx, l, float64(c.agents)/(c.rate*c.demand), &granted) })
			}
			defer takers.Wait()
			<-time.After(4 * time.Second)
			total := func(of func(*metrics) prometheus.Counter) (sum float64) {
				for _, l := range agents {
					sum += valueOf(of(l.metrics))
				}
				return sum
			}
			countBought := func(m *metrics) prometheus.Counter { return m.bought }
			countLost := func(m *metrics) prometheus.Counter { return m.lost }
			began, before, bought, lost := time.Now(), granted.Load(), total(countBought), total(countLost)
			<-time.After(10 * time.Second)
			took := time.Since(began).Seconds()
			b.ReportMetric(float64(granted.Load()-before)/took/c.rate*100, "%")
			b.ReportMetric((total(countBought)-bought)/took, "bought/s")
			b.ReportMetric((total(countLost)-lost)/took, "lost/s")
			b.ReportMetric(total(func(m *metrics) prometheus.Counter { return m.unavailable }), "unavailable")
		})
	}
}

// takeEvery takes a token every interval seconds, whether or not earlier takes still wait.
func takeEvery(ctx context.Context, l *Limits, interval float64, granted *atomic.Int64) {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	<-time.After(time.Duration(rand.Float64() * interval * float64(time.Second)))
	for tick := time.NewTicker(time.Duration(interval * float64(time.Second))); ; {
		waiting.Go(func() {
			if d, err := l.Take(ctx, "x", 1); err == nil && d.Granted {
				granted.Add(1)
			}
		})
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

func valueOf(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue()
}
