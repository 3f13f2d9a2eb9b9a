package main

import (
	"context"
	"fmt"
	"time"
)

// settling is how long an agent is left alone before its memory is measured. It is
// more than two minutes, after which the Go runtime collects garbage at the latest.
const settling = 130 * time.Second

func memoryRows() []row {
	var all []row
	for _, r := range []struct {
		instances int
		limit     float64 // MiB
	}{{100, 30}, {10_000, 60}} {
		all = append(all, row{
			name:    fmt.Sprintf("idle-%d", r.instances),
			about:   fmt.Sprintf("memory of an idle agent that knows %d instances", r.instances),
			against: "the limit",
			figures: []figure{{"resident", "MiB", atMost(1)}},
			start:   func(ctx context.Context, s *stage) (pair, error) { return startIdle(ctx, s, r.instances, r.limit) },
		})
	}
	return all
}

func startIdle(ctx context.Context, s *stage, instances int, limit float64) (pair, error) {
	_, a, err := s.fleet(ctx, s.few(instances, 10))
	if err != nil {
		return pair{}, err
	}
	if !s.quick {
		if err := sleep(ctx, settling); err != nil {
			return pair{}, err
		}
	}
	return pair{
		disc: func(ctx context.Context) ([]float64, error) {
			if err := sleep(ctx, s.window); err != nil {
				return nil, err
			}
			mib, err := memory(a.pid(), resident)
			return []float64{mib}, err
		},
		other: func(context.Context) ([]float64, error) { return []float64{limit}, nil },
	}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
