package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"
)

// settleTime is how long an agent is left idle before its memory is measured. The Go
// runtime collects garbage at least every two minutes.
const settleTime = 130 * time.Second

// idleAgent is an agent of the idle rows and its bounds, in MiB.
type idleAgent struct {
	instances    int
	maxResident  float64
	maxAnonymous float64 // 0: no bound
}

func memoryRows() []row {
	var all []row
	for _, a := range []idleAgent{
		{instances: 100, maxResident: 30, maxAnonymous: 6},
		{instances: 10_000, maxResident: 60},
	} {
		own := figure{name: "anonymous", unit: "MiB", against: "its resident memory"}
		if a.maxAnonymous > 0 {
			own = figure{name: "anonymous", unit: "MiB", bound: atMost(1)}
		}
		all = append(all, row{
			name:    fmt.Sprintf("idle-%d", a.instances),
			about:   fmt.Sprintf("memory of an idle agent that knows %d instances", a.instances),
			against: "the limit",
			figures: []figure{
				{name: "resident", unit: "MiB", bound: atMost(1)},
				own,
				{name: "pages of the binary", unit: "MiB", against: "the binary's size"},
			},
			start: func(ctx context.Context, s *stage) (pair, error) { return startIdle(ctx, s, a) },
		})
	}
	return all
}

func startIdle(ctx context.Context, s *stage, idle idleAgent) (pair, error) {
	_, a, err := s.fleet(ctx, s.size(idle.instances, 10))
	if err != nil {
		return pair{}, err
	}
	binary, err := os.Stat(s.disc.path)
	if err != nil {
		return pair{}, err
	}
	if !s.quick {
		if err := sleep(ctx, settleTime); err != nil {
			return pair{}, err
		}
	}
	return pair{
		disc: func(ctx context.Context) ([]float64, error) {
			if err := sleep(ctx, s.window); err != nil {
				return nil, err
			}
			return memoryFigures(a.pid(), resident, anonymous, fileBacked)
		},
		other: func(context.Context) ([]float64, error) {
			now, err := memory(a.pid(), resident)
			return []float64{idle.maxResident, cmp.Or(idle.maxAnonymous, now), float64(binary.Size()) / (1 << 20)}, err
		},
	}, nil
}

// memoryFigures returns several memory figures of a process in MiB.
func memoryFigures(pid int, figures ...string) ([]float64, error) {
	var all []float64
	for _, figure := range figures {
		mib, err := memory(pid, figure)
		if err != nil {
			return nil, err
		}
		all = append(all, mib)
	}
	return all, nil
}

// sleep waits for d. It returns ctx's error when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
