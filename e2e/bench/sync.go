package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/catalog"
)

// maxBytesPerInstance is the bound of the heap of a known instance.
const maxBytesPerInstance = 1024

// syncRows measure reading a whole fleet: by a catalog, and by a bare paged range into a map,
// each in a new process.
func syncRows() []row {
	var all []row
	for _, instances := range []int{1000, 10_000, 100_000} {
		r := row{
			name:    fmt.Sprintf("sync-%d", instances),
			about:   fmt.Sprintf("the first sync of %d instances, in a new process", instances),
			against: "paged range into a map",
			figures: []figure{{name: "time", unit: "ms"}, {name: "peak memory", unit: "MiB"}, {name: "settled heap", unit: "MiB"}},
			start: func(ctx context.Context, s *stage) (pair, error) {
				return startSync(ctx, s, s.size(instances, 200))
			},
		}
		if instances == 100_000 {
			r.figures[0].bound = atMost(2)
		}
		all = append(all, r)
	}
	return append(all, row{
		name:    "memory",
		about:   "the heap of a catalog of 100000 instances, for each instance",
		against: "the limit",
		figures: []figure{{name: "heap an instance", unit: "bytes", bound: atMost(1)}},
		start:   startMemory,
	})
}

// syncResult is the output of a process that has read a fleet.
type syncResult struct {
	Time time.Duration
	Peak float64 // MiB, resident
	Heap float64 // MiB, the growth after a garbage collection
}

func startSync(ctx context.Context, s *stage, instances int) (pair, error) {
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	if err := fill(ctx, client, instances); err != nil {
		return pair{}, err
	}
	side := func(role string) side {
		return func(context.Context) ([]float64, error) {
			got, err := s.sync(role, client.Endpoints()[0], instances)
			return []float64{millis(got.Time), got.Peak, got.Heap}, err
		}
	}
	return pair{side("catalog"), side("map")}, nil
}

// sync starts a process that reads the fleet, and returns its result.
func (s *stage) sync(role, endpoint string, instances int) (syncResult, error) {
	p, said, err := s.start(role, nil, endpoint, fmt.Sprint(instances))
	if err != nil {
		return syncResult{}, err
	}
	defer p.kill()
	var got syncResult
	if err := json.Unmarshal([]byte(said), &got); err != nil {
		return syncResult{}, err
	}
	got.Peak, err = memory(p.pid(), peak)
	return got, err
}

func startMemory(ctx context.Context, s *stage) (pair, error) {
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	instances := s.size(100_000, 200)
	if err := fill(ctx, client, instances); err != nil {
		return pair{}, err
	}
	return pair{
		disc: func(context.Context) ([]float64, error) {
			got, err := s.sync("catalog", client.Endpoints()[0], instances)
			return []float64{got.Heap * (1 << 20) / float64(instances)}, err
		},
		other: func(context.Context) ([]float64, error) { return []float64{maxBytesPerInstance}, nil },
	}, nil
}

// runCatalog reads the fleet of the etcd of its first argument into a catalog.
func runCatalog(ctx context.Context, args []string, _ io.Reader, out io.Writer) error {
	return readFleet(ctx, args, out, func(ctx context.Context, client *clientv3.Client) (any, int, error) {
		c, err := catalog.New(client, discovery.NewKeys("default"), catalog.Options{})
		if err != nil {
			return nil, 0, err
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		for {
			changed := c.Changed("")
			if view, err := c.View(); err == nil {
				_, instances, _ := view.Snapshot.Len()
				return c, instances, nil
			}
			select {
			case <-changed:
			case err := <-ended:
				return nil, 0, errors.Join(err, ctx.Err())
			}
		}
	})
}

// runMap reads the same range by pages into a map.
func runMap(ctx context.Context, args []string, _ io.Reader, out io.Writer) error {
	return readFleet(ctx, args, out, func(ctx context.Context, client *clientv3.Client) (any, int, error) {
		const page = 1000
		from, to := discovery.NewKeys("default").CatalogRange()
		all := map[string][]byte{}
		for at := int64(0); ; {
			got, err := client.Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(page), clientv3.WithRev(at))
			if err != nil {
				return nil, 0, err
			}
			for _, kv := range got.Kvs {
				all[string(kv.Key)] = kv.Value
			}
			if !got.More {
				return all, len(all), nil
			}
			at, from = got.Header.Revision, string(got.Kvs[len(got.Kvs)-1].Key)+"\x00"
		}
	})
}

// readFleet measures read, which returns the data and the number of instances, and writes the
// result to out. It fails unless this number is the second argument.
func readFleet(ctx context.Context, args []string, out io.Writer, read func(context.Context, *clientv3.Client) (any, int, error)) error {
	client, err := connect(args[0])
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Get(ctx, "connected"); err != nil {
		return err
	}
	before, start := heap(), time.Now()
	all, n, err := read(ctx, client)
	took := time.Since(start)
	if err != nil {
		return err
	}
	if want := args[1]; fmt.Sprint(n) != want {
		return fmt.Errorf("read %d instances, want %s", n, want)
	}
	b, err := json.Marshal(syncResult{Time: took, Heap: heap() - before})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s%s\n", ready, b)
	<-ctx.Done()
	runtime.KeepAlive(all)
	return nil
}

// heap returns the live heap in MiB.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
