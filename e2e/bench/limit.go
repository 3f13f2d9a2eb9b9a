package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/limit"
)

// The load on limits.
const (
	limitName   = "sms"
	limitWrites = 100              // bound of etcd's writes a second for one limit
	limitWindow = 10 * time.Second // of a round
)

func limitRows() []row {
	all := []row{{
		name:    "limit-local",
		about:   "a denied take of a limit, in process; and INCR over Redis's Unix socket",
		against: "Redis INCR",
		needs:   []string{"redis-server"},
		figures: []figure{{name: "time", unit: "µs"}},
		start:   startLimitLocal,
	}}
	for _, t := range []struct {
		agents       int
		rate, demand float64 // the limit a second; the takes, as a multiple of it
		least        float64 // bound of the admitted share of the limit
	}{{1, 1, 10, 0.85}, {20, 1, 40, 0.85}, {4, 50, 2, 0.85}, {20, 1000, 2, 0.9}, {100, 1000, 2, 0.8}} {
		all = append(all, row{
			name:    fmt.Sprintf("limit-%d-%g", t.agents, t.rate),
			about:   fmt.Sprintf("%d agents, in one process, that take %g times a limit of %g a second", t.agents, t.demand, t.rate),
			against: "the limit",
			figures: []figure{{name: "admitted", unit: "/s", bound: atLeast(t.least)}},
			start: func(ctx context.Context, s *stage) (pair, error) {
				return startLimit(ctx, s, t.agents, t.rate, t.demand)
			},
		})
	}
	return append(all, row{
		name:    "limit-writes",
		about:   "etcd's writes for one limit of 1000 a second, with 20 agents that take 2 times as much",
		against: "at most",
		figures: []figure{{name: "writes", unit: "/s", bound: atMost(1)}},
		start:   startLimitWrites,
	})
}

// runInBackground calls run, and cancels its context when the row ends.
func (s *stage) runInBackground(ctx context.Context, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	s.onClose(func() {
		cancel()
		running.Wait()
	})
}

// limits starts the client of limits that one agent has.
func (s *stage) limits(ctx context.Context, client *clientv3.Client) (*limit.Limits, error) {
	l, err := limit.New(client, discovery.NewKeys("default"), limit.Options{})
	if err != nil {
		return nil, err
	}
	s.runInBackground(ctx, l.Run)
	return l, nil
}

func startLimitLocal(ctx context.Context, s *stage) (pair, error) {
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	conn, err := s.redisSocket()
	if err != nil {
		return pair{}, err
	}
	l, err := s.limits(ctx, client)
	if err != nil {
		return pair{}, err
	}
	if _, _, err := l.Put(ctx, limitName, discovery.Limit{Rate: 1, Per: discovery.Duration(time.Hour), Burst: 1}); err != nil {
		return pair{}, err
	}
	if _, err := l.Take(ctx, limitName, 1); err != nil {
		return pair{}, err
	}
	return pair{
		s.repeat(time.Microsecond, func(ctx context.Context) error {
			_, err := l.Take(ctx, limitName, 1)
			return err
		}),
		s.repeat(time.Microsecond, func(context.Context) error {
			_, err := conn.do("INCR", limitName)
			return err
		}),
	}, nil
}

// takers are agents that take more than a limit allows. They count the granted takes.
type takers struct{ admitted atomic.Int64 }

// startTakers starts agents that take from a limit until the row ends, together demand times
// the rate.
func (s *stage) startTakers(ctx context.Context, agents int, rate, demand float64) (*takers, *clientv3.Client, error) {
	_, client, err := s.etcd()
	if err != nil {
		return nil, nil, err
	}
	clients, err := s.connections(ctx, client, agents)
	if err != nil {
		return nil, nil, err
	}
	t := &takers{}
	for n, c := range clients {
		l, err := s.limits(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		if n == 0 {
			if _, _, err := l.Put(ctx, limitName, discovery.Limit{Rate: rate, Burst: max(1, int64(rate))}); err != nil {
				return nil, nil, err
			}
		}
		every := time.Duration(float64(agents) / (rate * demand) * float64(time.Second))
		s.runInBackground(ctx, func(ctx context.Context) error { return t.takeEvery(ctx, l, every) })
	}
	return t, client, sleep(ctx, 2*s.window) // a new limit starts with an empty bucket
}

// takeEvery takes a token in each interval, even when earlier takes still wait.
func (t *takers) takeEvery(ctx context.Context, l *limit.Limits, every time.Duration) error {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	if err := sleep(ctx, time.Duration(rand.Float64()*float64(every))); err != nil {
		return err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		waiting.Go(func() {
			if d, err := l.Take(ctx, limitName, 1); err == nil && d.Granted {
				t.admitted.Add(1)
			}
		})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// limitWindow returns the duration of a round.
func (s *stage) limitWindow() time.Duration {
	if s.quick {
		return s.window
	}
	return limitWindow
}

func startLimit(ctx context.Context, s *stage, agents int, rate, demand float64) (pair, error) {
	t, _, err := s.startTakers(ctx, s.size(agents, 2), rate, demand)
	if err != nil {
		return pair{}, err
	}
	return pair{
		disc: func(ctx context.Context) ([]float64, error) {
			before, start := t.admitted.Load(), time.Now()
			err := sleep(ctx, s.limitWindow())
			return []float64{float64(t.admitted.Load()-before) / time.Since(start).Seconds()}, err
		},
		other: func(context.Context) ([]float64, error) { return []float64{rate}, nil },
	}, nil
}

func startLimitWrites(ctx context.Context, s *stage) (pair, error) {
	_, client, err := s.startTakers(ctx, s.size(20, 2), 1000, 2)
	if err != nil {
		return pair{}, err
	}
	revision := func(ctx context.Context) (int64, error) {
		got, err := client.Get(ctx, discovery.NewKeys("default").Ledger(limitName))
		if err != nil {
			return 0, err
		}
		return got.Header.Revision, nil
	}
	return pair{
		disc: func(ctx context.Context) ([]float64, error) {
			before, err := revision(ctx)
			if err != nil {
				return nil, err
			}
			start := time.Now()
			if err := sleep(ctx, s.limitWindow()); err != nil {
				return nil, err
			}
			after, err := revision(ctx)
			return []float64{float64(after-before) / time.Since(start).Seconds()}, err
		},
		other: func(context.Context) ([]float64, error) { return []float64{limitWrites}, nil },
	}, nil
}
