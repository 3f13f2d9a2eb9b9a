package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/kv"
)

func kvRows() []row {
	return []row{{
		name:    "kv-get",
		about:   "reading a value: in process, and from Redis over its Unix socket, one after the other",
		against: "Redis GET",
		needs:   []string{"redis-server"},
		figures: []figure{{name: "time", unit: "µs"}},
		start:   startKVGet,
	}, {
		name:    "kv-redis",
		about:   fmt.Sprintf("a value of 100 bytes, GET %s with wrk, and GET with redis-benchmark, %d connections each", valuePath, connections),
		against: "Redis GET",
		needs:   []string{"wrk", "redis-server", "redis-benchmark"},
		figures: []figure{{name: "values", unit: "/s", bound: atLeast(1)}, {name: "CPU a value", unit: "µs"}},
		start:   startKVRedis,
	}, {
		name:    "kv-scan",
		about:   "a million keys by their prefix: iterated in process, and listed by Redis over its Unix socket",
		against: "Redis KEYS",
		needs:   []string{"redis-server"},
		figures: []figure{{name: "time", unit: "ms", bound: atMost(1)}},
		start:   startKVScan,
	}, {
		name:    "kv-keys",
		about:   "the same keys listed by an agent (GET /v1/kv/scan/?keys) and by Redis, each over its Unix socket",
		against: "Redis KEYS",
		needs:   []string{"redis-server"},
		figures: []figure{{name: "time", unit: "ms", bound: atMost(1)}},
		start:   startKVKeys,
	}}
}

// store starts an etcd and a key/value store on it, which runs until the row ends.
func (s *stage) store(ctx context.Context) (*kv.Store, *clientv3.Client, error) {
	_, client, err := s.etcd()
	if err != nil {
		return nil, nil, err
	}
	store, err := kv.New(client, discovery.NewKeys("default"), kv.Options{})
	if err != nil {
		return nil, nil, err
	}
	s.runInBackground(ctx, store.Run)
	return store, client, nil
}

// redisSocket starts a Redis and connects to its Unix socket.
func (s *stage) redisSocket() (*redisConn, error) {
	r, err := s.redis()
	if err != nil {
		return nil, err
	}
	c, err := net.Dial("unix", r.socket)
	if err != nil {
		return nil, err
	}
	s.onClose(func() { c.Close() })
	return newRedisConn(c), nil
}

// repeat returns a side that calls do again and again for the window, at least once, and
// returns the mean duration in units of unit.
func (s *stage) repeat(unit time.Duration, do func(context.Context) error) side {
	return func(ctx context.Context) ([]float64, error) {
		n, start := 0, time.Now()
		for ; n == 0 || time.Since(start) < s.window; n++ {
			if err := do(ctx); err != nil {
				return nil, err
			}
		}
		return []float64{float64(time.Since(start)) / float64(unit) / float64(n)}, ctx.Err()
	}
}

func startKVGet(ctx context.Context, s *stage) (pair, error) {
	store, _, err := s.store(ctx)
	if err != nil {
		return pair{}, err
	}
	conn, err := s.redisSocket()
	if err != nil {
		return pair{}, err
	}
	const key, value = "app/greeting", "hello"
	if _, err := store.Write(ctx, kv.Op{Key: key, Value: []byte(value)}); err != nil {
		return pair{}, err
	}
	if _, err := conn.do("SET", key, value); err != nil {
		return pair{}, err
	}
	return pair{
		s.repeat(time.Microsecond, func(ctx context.Context) error {
			_, _, err := store.Get(ctx, key, kv.Read{})
			return err
		}),
		s.repeat(time.Microsecond, func(context.Context) error {
			_, err := conn.do("GET", key)
			return err
		}),
	}, nil
}

const valuePath = "/v1/kv/app/greeting"

func startKVRedis(ctx context.Context, s *stage) (pair, error) {
	a, r, err := agentAndRedis(ctx, s)
	if err != nil {
		return pair{}, err
	}
	agent, err := api.NewClient("http://" + a.http)
	if err != nil {
		return pair{}, err
	}
	defer agent.CloseIdle()
	value := strings.Repeat("x", 100)
	if _, err := agent.KVPut(ctx, strings.TrimPrefix(valuePath, "/v1/kv/"), []byte(value), 0, nil); err != nil {
		return pair{}, err
	}
	if _, err := r.conn.do("SET", valuePath, value); err != nil {
		return pair{}, err
	}
	return pair{s.wrkSide(a, valuePath), s.redisSide(r, valuePath)}, nil
}

func startKVScan(ctx context.Context, s *stage) (pair, error) {
	n := s.size(1_000_000, 1000)
	store, client, err := s.store(ctx)
	if err != nil {
		return pair{}, err
	}
	if err := fillKV(ctx, client, n); err != nil {
		return pair{}, err
	}
	listed, err := s.redisKeys(n)
	if err != nil {
		return pair{}, err
	}
	scan := func(ctx context.Context) error {
		items, _, err := store.List(ctx, "scan/", kv.Read{})
		if err != nil {
			return err
		}
		found := 0
		for range items {
			found++
		}
		return wantAll(found, n)
	}
	if err := await(ctx, func() error { return scan(ctx) }); err != nil { // the first scan copies the keys from etcd
		return pair{}, err
	}
	return pair{s.repeat(time.Millisecond, scan), listed}, nil
}

func startKVKeys(ctx context.Context, s *stage) (pair, error) {
	n := s.size(1_000_000, 1000)
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	if err := fillKV(ctx, client, n); err != nil {
		return pair{}, err
	}
	a, err := s.agent(client.Endpoints()[0], "bench")
	if err != nil {
		return pair{}, err
	}
	listed, err := s.redisKeys(n)
	if err != nil {
		return pair{}, err
	}
	asked, err := api.NewClient("unix://" + a.socket)
	if err != nil {
		return pair{}, err
	}
	s.onClose(asked.CloseIdle)
	err = await(ctx, func() error { // the first request copies the keys from etcd
		keys, _, err := asked.KVKeys(ctx, "scan/", api.KVRead{})
		return cmp.Or(err, wantAll(len(keys), n))
	})
	const around = `"",` // the quotes and the comma of each key
	size := n*(len(scanKey(0))+len(around)) + len("[]\n") - len(",")
	return pair{s.repeat(time.Millisecond, func(ctx context.Context) error {
		got, err := read(ctx, asked.HTTP, asked.BaseURL+"/v1/kv/scan/?keys")
		return cmp.Or(err, wantAll(got, size))
	}), listed}, err
}

// read gets url, discards the body and returns its size, as [redisConn.do] does.
func read(ctx context.Context, client *http.Client, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	return int(n), err
}

// redisKeys starts a Redis with n keys, and returns the side that lists them.
func (s *stage) redisKeys(n int) (side, error) {
	conn, err := s.redisSocket()
	if err != nil {
		return nil, err
	}
	if err := fillRedis(conn, n); err != nil {
		return nil, err
	}
	return s.repeat(time.Millisecond, func(context.Context) error {
		found, err := conn.do("KEYS", "scan/*")
		return cmp.Or(err, wantAll(found, n))
	}), nil
}

// wantAll returns an error unless found is all.
func wantAll(found, all int) error {
	if found == all {
		return nil
	}
	return fmt.Errorf("found %d of %d", found, all)
}

func scanKey(n int) string { return fmt.Sprintf("scan/%07d", n) }

// fillKV writes keys with small values to etcd directly, without the store.
func fillKV(ctx context.Context, client *clientv3.Client, keys int) error {
	prefix := discovery.NewKeys("default").Prefix() + "kv/"
	return writeAll(ctx, client, keys, func(n int) clientv3.Op { return clientv3.OpPut(prefix+scanKey(n), "1") })
}

func fillRedis(conn *redisConn, keys int) error {
	for from := 0; from < keys; from += maxTxnOps {
		set := []string{"MSET"}
		for n := from; n < min(from+maxTxnOps, keys); n++ {
			set = append(set, scanKey(n), "1")
		}
		if _, err := conn.do(set...); err != nil {
			return fmt.Errorf("fill Redis: %w", err)
		}
	}
	return nil
}
