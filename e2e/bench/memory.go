package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// The times for which an agent is left idle before its memory is measured. Its own memory
// is what starting has left. Two minutes later the Go runtime collects garbage for the first
// time by itself, and touches some 0.7 MiB of tables of its own; all figures of the settled
// agent include them.
const (
	startedTime = 30 * time.Second
	settleTime  = 130 * time.Second
)

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
		settled := figure{name: "anonymous, settled", unit: "MiB", against: "its resident memory"}
		all = append(all, row{
			name:    fmt.Sprintf("idle-%d", a.instances),
			about:   fmt.Sprintf("memory of an idle agent that knows %d instances", a.instances),
			against: "the limit",
			figures: []figure{
				{name: "resident", unit: "MiB", bound: atMost(1)},
				own,
				settled,
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
	if err := s.idle(ctx, startedTime); err != nil {
		return pair{}, err
	}
	started, err := memory(a.pid(), anonymous)
	if err != nil {
		return pair{}, err
	}
	if err := s.idle(ctx, settleTime-startedTime); err != nil {
		return pair{}, err
	}
	return pair{
		disc: func(ctx context.Context) ([]float64, error) {
			if err := sleep(ctx, s.window); err != nil {
				return nil, err
			}
			now, err := memoryFigures(a.pid(), resident, anonymous, fileBacked)
			return slices.Insert(now, 1, started), err
		},
		other: func(context.Context) ([]float64, error) {
			now, err := memory(a.pid(), resident)
			return []float64{idle.maxResident, cmp.Or(idle.maxAnonymous, now), now, float64(binary.Size()) / (1 << 20)}, err
		},
	}, nil
}

// idle waits for d, unless the rows are only tried.
func (s *stage) idle(ctx context.Context, d time.Duration) error {
	if s.quick {
		return nil
	}
	return sleep(ctx, d)
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
