package main

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/claim"
	"disc/discovery/lease"
	"disc/discovery/life"
	"disc/discovery/lock"
)

// claimRows compare grants, on which etcd reaches consensus, with a single Redis that keeps
// nothing on disk. etcd does not sync its disk either.
func claimRows() []row {
	return []row{{
		name:    "lock",
		about:   "acquiring and releasing a lock, in process; and SET NX and DEL over Redis's Unix socket",
		against: "Redis SET NX, DEL",
		needs:   []string{"redis-server"},
		figures: []figure{{name: "time", unit: "µs"}},
		start:   startLock,
	}, {
		name:    "claim",
		about:   "claiming and releasing one of 10 instances, in process; and SPOP and SADD over Redis's Unix socket",
		against: "Redis SPOP, SADD",
		needs:   []string{"redis-server"},
		figures: []figure{{name: "time", unit: "µs"}},
		start:   startClaim,
	}}
}

// locks starts a manager of locks with a session of its own. Both run until the row ends.
func (s *stage) locks(ctx context.Context, client *clientv3.Client) (*lock.Manager, error) {
	locks, runs, err := newLocks(client)
	for _, run := range runs {
		s.runInBackground(ctx, run)
	}
	return locks, err
}

// newLocks returns a manager of locks with a session of its own, and what must run for it.
func newLocks(client *clientv3.Client) (locks *lock.Manager, runs []func(context.Context) error, err error) {
	session, err := lease.New(client, lease.DefaultTTL, lease.Options{})
	if err != nil {
		return nil, nil, err
	}
	present := life.New(client, discovery.NewKeys("default"), life.Options{Session: session})
	locks, err = lock.New(client, discovery.NewKeys("default"), session, present, lock.Options{})
	if err != nil {
		return nil, nil, err
	}
	return locks, []func(context.Context) error{session.Run, present.Run, locks.Run}, nil
}

func startLock(ctx context.Context, s *stage) (pair, error) {
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	locks, err := s.locks(ctx, client)
	if err != nil {
		return pair{}, err
	}
	once := func(ctx context.Context) error {
		grant, err := locks.Lock(ctx, "bench", lock.Request{TTL: time.Minute})
		if err != nil {
			return err
		}
		done, err := locks.Release(ctx, grant.Name(), grant.ID())
		if err == nil && !done {
			err = errors.New("the lock was not released")
		}
		return err
	}
	return s.againstRedis(ctx, once, func(conn *redisConn) error {
		if _, err := conn.do("SET", "lock", "1", "NX", "PX", "60000"); err != nil {
			return err
		}
		_, err := conn.do("DEL", "lock")
		return err
	})
}

func startClaim(ctx context.Context, s *stage) (pair, error) {
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	if err := fill(ctx, client, 10); err != nil {
		return pair{}, err
	}
	view, err := catalog.New(client, discovery.NewKeys("default"), catalog.Options{})
	if err != nil {
		return pair{}, err
	}
	s.runInBackground(ctx, view.Run)
	locks, err := s.locks(ctx, client)
	if err != nil {
		return pair{}, err
	}
	claims := claim.New(client, discovery.NewKeys("default"), locks, view, claim.Options{})
	s.runInBackground(ctx, claims.Run)
	once := func(ctx context.Context) error {
		grant, err := claims.Claim(ctx, "web", claim.Request{TTL: time.Minute})
		if err != nil {
			return err
		}
		done, err := claims.Release(ctx, grant.ID())
		if err == nil && !done {
			err = errors.New("the claim was not released")
		}
		return err
	}
	return s.againstRedis(ctx, once, func(conn *redisConn) error {
		if _, err := conn.do("SADD", "idle", "web-1", "web-2", "web-3"); err != nil {
			return err
		}
		_, err := conn.do("SPOP", "idle")
		return err
	})
}

// againstRedis measures the microseconds of do, and of a command over a Redis's Unix socket.
// It first waits until do succeeds.
func (s *stage) againstRedis(ctx context.Context, do func(context.Context) error, redis func(*redisConn) error) (pair, error) {
	conn, err := s.redisSocket()
	if err != nil {
		return pair{}, err
	}
	if err := await(ctx, func() error { return do(ctx) }); err != nil { // fails until there are a session and a view
		return pair{}, err
	}
	return pair{
		s.repeat(time.Microsecond, do),
		s.repeat(time.Microsecond, func(context.Context) error { return redis(conn) }),
	}, nil
}
