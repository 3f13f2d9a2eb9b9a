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

// What wrk cannot do, this does: to keep to a rate, and to ask over a Unix socket.

// requester asks one question after the other over a connection.
type requester func() error

// lookupOver asks for a lookup over a connection.
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

// getOver asks for a key of Redis over a connection.
func getOver(key string) func(net.Conn) requester {
	return func(c net.Conn) requester {
		r := newRedisConn(c)
		return func() error {
			_, err := r.do("GET", key)
			return err
		}
	}
}

// dialer opens a connection.
type dialer struct{ network, address string }

// requesters opens connections, and returns what asks over them and what closes them.
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
		c.SetDeadline(time.Now().Add(waitTimeout)) // no side is asked for longer than that
		all = append(all, over(c))
	}
	return all, end, nil
}

// closedLoop asks over many connections for a time, on each one question after the
// other.
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

// openLoop asks at a fixed rate for a time, spread over the connections, and returns
// how long answers took at p50 and p99. Time counts from the moment at which a
// question was due, so that a server that makes the questions wait is charged for it.
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

// quantile returns a quantile of sorted durations; 0 where there are none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))]
}
