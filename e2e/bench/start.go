package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"disc/discovery"
)

func startRows() []row {
	return []row{{
		name:    "cold",
		about:   "from the start of an agent that has its last-good file to its first answered lookup; etcd has 10000 instances",
		against: "without that file",
		figures: []figure{{name: "time", unit: "ms"}},
		start:   startCold,
	}, {
		name:    "list",
		about:   "'disc list web' of 10 instances, the whole process",
		against: "etcdctl get --prefix",
		needs:   []string{"etcdctl"},
		figures: []figure{{name: "time", unit: "ms", bound: atMost(1.2)}, {name: "CPU", unit: "ms"}},
		start:   startList,
	}}
}

func startCold(ctx context.Context, s *stage) (pair, error) {
	client, first, err := s.fleet(ctx, s.size(10_000, 100))
	if err != nil {
		return pair{}, err
	}
	endpoint := client.Endpoints()[0]
	if err := first.command.Process.Signal(syscall.SIGTERM); err != nil {
		return pair{}, err
	}
	if err := first.command.Wait(); err != nil {
		return pair{}, fmt.Errorf("stop the agent that saves its last-good file: %w", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "bench", "last-good")); err != nil {
		return pair{}, err
	}
	cold := func(ctx context.Context, name string) ([]float64, error) {
		start := time.Now()
		a, err := s.agent(endpoint, name)
		if err != nil {
			return nil, err
		}
		defer a.kill()
		err = await(ctx, func() error { _, err := fetch(a.http, lookupPath); return err })
		return []float64{millis(time.Since(start))}, err
	}
	starts := 0
	return pair{
		disc: func(ctx context.Context) ([]float64, error) { return cold(ctx, "bench") },
		other: func(ctx context.Context) ([]float64, error) {
			starts++
			return cold(ctx, fmt.Sprintf("bench-%d", starts)) // a new data directory
		},
	}, nil
}

func startList(ctx context.Context, s *stage) (pair, error) {
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	if err := fill(ctx, client, 10); err != nil {
		return pair{}, err
	}
	endpoint, prefix := client.Endpoints()[0], discovery.NewKeys("default").Service("web")
	return pair{
		disc: s.repeatCommand(func() *exec.Cmd { return s.command(endpoint, "list", "web") }),
		other: s.repeatCommand(func() *exec.Cmd {
			c := exec.Command("etcdctl", "--endpoints", endpoint, "get", "--prefix", prefix)
			c.Env = append(os.Environ(), "ETCDCTL_API=3")
			return c
		}),
	}, nil
}

// repeatCommand returns a side that runs a command again and again for the window, at least
// once, and returns the medians of its duration and of its CPU time in milliseconds.
func (s *stage) repeatCommand(command func() *exec.Cmd) side {
	return func(ctx context.Context) ([]float64, error) {
		var took, cpu []time.Duration
		for first := time.Now(); len(took) == 0 || time.Since(first) < s.window; {
			c := command()
			start := time.Now()
			if out, err := c.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%s: %w: %s", c.Path, err, out)
			}
			took = append(took, time.Since(start))
			cpu = append(cpu, c.ProcessState.UserTime()+c.ProcessState.SystemTime())
		}
		slices.Sort(took)
		slices.Sort(cpu)
		return []float64{millis(quantile(took, 0.5)), millis(quantile(cpu, 0.5))}, ctx.Err()
	}
}
