package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// These load generators do what wrk cannot: keep to a rate, and use a Unix socket.

// requester sends a request over its connection and reads the answer.
type requester func() error

// lookupOver returns a requester of an HTTP lookup.
func lookupOver(c net.Conn) requester {
	in := bufio.NewReader(c)
	request := []byte("GET " + lookupPath + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	return func() error {
		if _, err := c.Write(request); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", lookupPath, resp.Status)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
}

// getOver returns a requester of a Redis key.
func getOver(key string) func(net.Conn) requester {
	return func(c net.Conn) requester {
		r := newRedisConn(c)
		return func() error {
			_, err := r.do("GET", key)
			return err
		}
	}
}

// dialer has the address of the server to connect to.
type dialer struct{ network, address string }

// requesters opens n connections. It returns a requester for each, and a function that closes
// them.
func (d dialer) requesters(n int, over func(net.Conn) requester) (all []requester, end func(), err error) {
	var open []net.Conn
	end = func() {
		for _, c := range open {
			c.Close()
		}
	}
	for range n {
		c, err := net.Dial(d.network, d.address)
		if err != nil {
			end()
			return nil, nil, err
		}
		open = append(open, c)
		c.SetDeadline(time.Now().Add(waitTimeout)) // longer than any measurement
		all = append(all, over(c))
	}
	return all, end, nil
}

// closedLoop loads a server for d. Each connection sends its next request when the one before
// is answered.
func closedLoop(ctx context.Context, d time.Duration, at dialer, over func(net.Conn) requester) (load, error) {
	askers, end, err := at.requesters(connections, over)
	if err != nil {
		return load{}, err
	}
	defer end()
	counts := make([]int, len(askers))
	start := time.Now()
	var group errgroup.Group
	for n, ask := range askers {
		group.Go(func() error {
			for time.Since(start) < d && ctx.Err() == nil {
				if err := ask(); err != nil {
					return err
				}
				counts[n]++
			}
			return ctx.Err()
		})
	}
	err = group.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return load{rate: float64(sum) / time.Since(start).Seconds(), requests: float64(sum)}, err
}

// openLoop sends requests at a fixed rate, in requests a second, for d, spread over the
// connections. It returns the latencies at p50 and p99. A latency counts from the moment
// when the request was due, so that it includes the time that a slow server delays requests.
func openLoop(ctx context.Context, d time.Duration, rate float64, at dialer, over func(net.Conn) requester) (p50, p99 time.Duration, err error) {
	askers, end, err := at.requesters(connections, over)
	if err != nil {
		return 0, 0, err
	}
	defer end()
	var mu sync.Mutex
	var all []time.Duration
	start := time.Now()
	every := time.Duration(float64(time.Second) / rate * float64(len(askers)))
	var group errgroup.Group
	for n, ask := range askers {
		group.Go(func() error {
			took := make([]time.Duration, 0, int(d/every)+1)
			first := every * time.Duration(n) / time.Duration(len(askers))
			for due := start.Add(first); due.Sub(start) < d && ctx.Err() == nil; due = due.Add(every) {
				time.Sleep(time.Until(due))
				if err := ask(); err != nil {
					return err
				}
				took = append(took, time.Since(due))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			return ctx.Err()
		})
	}
	err = group.Wait()
	slices.Sort(all)
	return quantile(all, 0.5), quantile(all, 0.99), err
}

// quantile returns the quantile q, from 0 to 1, of sorted durations; 0 when there are none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))]
}
