package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
)

func blockingRows() []row {
	return []row{{
		name:    "blocking",
		about:   "1000 blocking queries, a connection each: from the put of an instance to the last answer",
		against: "bare net/http on a raw watch",
		figures: []figure{{name: "time", unit: "ms"}, {name: "memory while they wait", unit: "MiB"}},
		start:   startBlocking,
	}}
}

// runBareWait is the least server of blocking queries. It watches the etcd of its first
// argument, and answers a request when the watch has delivered a revision other than the
// request's.
func runBareWait(ctx context.Context, args []string, _ io.Reader, out io.Writer) error {
	client, err := connect(args[0])
	if err != nil {
		return err
	}
	defer client.Close()
	var mu sync.Mutex
	changed := make(chan struct{})
	var last int64
	go func() {
		for events := range client.Watch(ctx, discovery.NewKeys("default").Prefix(), clientv3.WithPrefix()) {
			mu.Lock()
			last = events.Header.Revision
			close(changed)
			changed = make(chan struct{})
			mu.Unlock()
		}
	}()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		wait, at := changed, last
		mu.Unlock()
		if index := r.FormValue("index"); index == "" || index == fmt.Sprint(at) {
			if index != "" {
				<-wait
			}
			mu.Lock()
			at = last
			mu.Unlock()
		}
		w.Header()["Disc-Index"] = []string{fmt.Sprint(at)}
		w.Write([]byte("changed\n"))
	})}
	fmt.Fprintln(out, ready+tcp.Addr().String())
	context.AfterFunc(ctx, func() { s.Close() })
	s.Serve(tcp)
	return nil
}

func startBlocking(ctx context.Context, s *stage) (pair, error) {
	client, a, err := s.fleet(ctx, 10)
	if err != nil {
		return pair{}, err
	}
	bare := &agent{}
	if bare.process, bare.http, err = s.start("wait", nil, client.Endpoints()[0]); err != nil {
		return pair{}, err
	}
	waiting := s.size(1000, 10)
	weight := 1
	side := func(a *agent) side {
		return func(ctx context.Context) ([]float64, error) {
			weight++
			return measureWakeup(ctx, a, client, waiting, weight)
		}
	}
	return pair{side(a), side(bare)}, nil
}

// measureWakeup sends waiting blocking queries and then changes an instance. It returns the
// milliseconds from the change to the last answer, and the agent's resident MiB while the
// queries wait.
func measureWakeup(ctx context.Context, a *agent, client *clientv3.Client, waiting, weight int) ([]float64, error) {
	now, err := fetch(a.http, lookupPath)
	if err != nil {
		return nil, err
	}
	request := fmt.Sprintf("GET %s?index=%s&wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n", lookupPath, strings.Join(now.Header["Disc-Index"], ""))
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range waiting {
		c, err := net.Dial("tcp", a.http)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
		c.SetDeadline(time.Now().Add(waitTimeout))
		if _, err := io.WriteString(c, request); err != nil {
			return nil, err
		}
	}
	if err := sleep(ctx, time.Second); err != nil { // until all queries wait
		return nil, err
	}
	mib, err := memory(a.pid(), resident)
	if err != nil {
		return nil, err
	}
	i := instance("web", 0)
	i.Weight = weight
	start := time.Now()
	if _, err := client.Put(ctx, discovery.NewKeys("default").Instance(i.Service, i.ID), string(i.Encode())); err != nil {
		return nil, err
	}
	var group errgroup.Group
	for _, c := range conns {
		group.Go(func() error {
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		})
	}
	err = group.Wait()
	return []float64{millis(time.Since(start)), mib}, err
}
