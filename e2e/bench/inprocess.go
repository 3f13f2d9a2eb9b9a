package main

import (
	"context"
	"fmt"
	"time"

	"disc/discovery"
	"disc/discovery/catalog"
)

// batch is the number of lookups between two readings of the clock, which costs as much as a
// lookup.
const batch = 1000

func inProcessRows() []row {
	return []row{{
		name:    "lookup-local",
		about:   "a lookup of 10 instances in a Go program, in process; and GET from Redis over its Unix socket",
		against: "Redis GET",
		needs:   []string{"redis-server"},
		figures: []figure{{name: "time", unit: "ns"}},
		start:   startLookupLocal,
	}}
}

func startLookupLocal(ctx context.Context, s *stage) (pair, error) {
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	const instances = 10
	if err := fill(ctx, client, instances); err != nil {
		return pair{}, err
	}
	view, err := catalog.New(client, discovery.NewKeys("default"), catalog.Options{})
	if err != nil {
		return pair{}, err
	}
	s.runInBackground(ctx, view.Run)
	lookups := func(context.Context) error {
		for range batch {
			web, err := view.Service("web")
			if err != nil {
				return err
			}
			if found := len(web.Eligible()); found != instances {
				return fmt.Errorf("found %d of %d instances", found, instances)
			}
		}
		return nil
	}
	if err := await(ctx, func() error { return lookups(ctx) }); err != nil { // fails until there is a view
		return pair{}, err
	}
	conn, err := s.redisSocket()
	if err != nil {
		return pair{}, err
	}
	if _, err := conn.do("SET", "web", "10.0.0.1:8080"); err != nil {
		return pair{}, err
	}
	return pair{
		s.repeat(batch*time.Nanosecond, lookups),
		s.repeat(time.Nanosecond, func(context.Context) error {
			_, err := conn.do("GET", "web")
			return err
		}),
	}, nil
}
