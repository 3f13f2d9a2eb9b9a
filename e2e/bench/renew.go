package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/discovery/lock"
)

// The locks of the renew row.
const (
	renewInterval = 10 * time.Second
	renewMaxCPU   = 5.0              // percent of a core
	renewWindow   = 50 * time.Second // of a round: the manager reads all keys at all its intervals in it
	renewWriters  = 64               // concurrent requests of locks
)

func renewRows() []row {
	return []row{{
		name:    "renew",
		about:   fmt.Sprintf("CPU time of an agent's part for locks, of which 10000 are held and renewed every %v", renewInterval),
		against: "the limit",
		figures: []figure{{name: "CPU", unit: "%", bound: atMost(1)}},
		start:   startRenew,
	}}
}

func startRenew(ctx context.Context, s *stage) (pair, error) {
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	holder, _, err := s.start("renew", nil, client.Endpoints()[0], strconv.Itoa(s.size(10_000, 200)))
	if err != nil {
		return pair{}, err
	}
	window := renewWindow
	if s.quick {
		window = s.window
	}
	return pair{
		disc: func(ctx context.Context) ([]float64, error) {
			used, err := cpuShares(ctx, window, holder)
			if err != nil {
				return nil, err
			}
			_, err = memory(holder.pid(), resident) // an error if the process has ended
			return used, err
		},
		other: func(context.Context) ([]float64, error) { return []float64{renewMaxCPU}, ctx.Err() },
	}, nil
}

// runRenew holds as many locks of the etcd of its first argument as its second one says, and renews
// each every [renewInterval].
func runRenew(ctx context.Context, args []string, _ io.Reader, out io.Writer) error {
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	client, err := connect(args[0])
	if err != nil {
		return err
	}
	defer client.Close()
	locks, runs, err := newLocks(client)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range runs {
		group.Go(func() error { return run(ctx) })
	}
	group.Go(func() error {
		grants, err := acquireLocks(ctx, locks, count)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, ready+args[0])
		return renewLocks(ctx, locks, grants)
	})
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// acquireLocks acquires so many locks.
func acquireLocks(ctx context.Context, locks *lock.Manager, count int) ([]*lock.Grant, error) {
	grants := make([]*lock.Grant, count)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(renewWriters)
	for n := range grants {
		group.Go(func() error {
			return await(ctx, func() (err error) { // fails until there is a session
				grants[n], err = locks.Lock(ctx, fmt.Sprintf("bench-%d", n), lock.Request{TTL: time.Hour})
				return err
			})
		})
	}
	return grants, group.Wait()
}

// renewLocks renews one lock after the other, and asks how long it is valid, as an agent does.
func renewLocks(ctx context.Context, locks *lock.Manager, grants []*lock.Grant) error {
	next := time.NewTicker(10 * time.Millisecond)
	defer next.Stop()
	for n, start := 0, time.Now(); ; {
		due := int(int64(len(grants)) * int64(time.Since(start)) / int64(renewInterval))
		for ; n < due; n++ {
			g := grants[n%len(grants)]
			if _, err := locks.Renew(g.Name(), g.ID()); err != nil {
				return err
			}
			if g.ValidFor() <= 0 {
				return fmt.Errorf("lock %s is not valid", g.Name())
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next.C:
		}
	}
}
