package attack_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A bigHeader is below the bound of 16 KiB, so that the agent keeps reading it.
var bigHeader = "X-A: " + strings.Repeat("a", 14<<10)

// httpAttacks are attacks on HTTP/1.1. tlsAttacks are some of them, for listeners that share
// the rest with TCP.
var (
	httpAttacks = []attack{
		{name: "idle connections", run: func(ctx context.Context, t *target) error { return t.crowd(ctx, "") }},
		{name: "unfinished headers", run: func(ctx context.Context, t *target) error {
			return t.crowd(ctx, "GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\n"+bigHeader)
		}},
		{name: "unfinished bodies", run: func(ctx context.Context, t *target) error {
			return t.crowd(ctx, post("/dns-query", "application/dns-message", 65000, 60000))
		}},
		{name: "unfinished large bodies", run: func(ctx context.Context, t *target) error {
			return t.crowd(ctx, post("/v3/discovery:endpoints", "application/json", 1<<20, 500_000))
		}},
		{name: "unfinished chunks", run: func(ctx context.Context, t *target) error {
			return t.crowd(ctx, "PUT /v1/services/web/instances/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"+strings.Repeat("x", 50_000))
		}},
		{name: "unwanted bodies", run: func(ctx context.Context, t *target) error {
			return t.crowd(ctx, strings.Replace(post("/v1/lookup/few?zone=a", "text/plain", 1<<20, 50_000), "POST", "GET", 1))
		}},
		{name: "blocking queries", run: func(ctx context.Context, t *target) error {
			return t.crowd(ctx, "GET /v1/lookup/nosuch?index=0&wait=10m HTTP/1.1\r\nHost: localhost\r\n\r\n")
		}},
		{name: "watches", run: func(ctx context.Context, t *target) error {
			return t.crowd(ctx, "GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
		}},
		{name: "readers that do not read", run: func(ctx context.Context, t *target) error {
			return t.crowd(ctx, strings.Repeat("GET /v1/services/web HTTP/1.1\r\nHost: localhost\r\n\r\n", 20))
		}},
		{name: "readers of plain lookups that do not read", run: func(ctx context.Context, t *target) error {
			return t.crowd(ctx, strings.Repeat("GET /v1/lookup/few HTTP/1.1\r\nHost: localhost\r\n\r\n", 100))
		}},
		{name: "headers that are too large", run: func(ctx context.Context, t *target) error {
			return t.again(ctx, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"+strings.Repeat(bigHeader+"\r\n", 10)+"\r\n")
		}},
		{name: "odd requests", run: func(ctx context.Context, t *target) error {
			for _, odd := range []string{
				"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "GET / HTTP/9.9\r\n\r\n", strings.Repeat("\r\n", 5000),
				"GET /v1/lookup/%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST /dns-query HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
				"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
			} {
				if err := t.again(ctx, odd); err != nil {
					return err
				}
			}
			return nil
		}},
	}
	tlsAttacks = []attack{httpAttacks[0], httpAttacks[1], httpAttacks[2], httpAttacks[6]}
)

// nameAttacks are floods of names, which an agent might remember.
var nameAttacks = []attack{
	{name: "names of services", run: floodOf("GET", "/v1/lookup/n%d")},
	{name: "names of blocking queries", run: floodOf("GET", "/v1/lookup/n%d?index=1&wait=10m")},
	{name: "names in DNS over HTTPS", run: floodOf("GET", "/resolve?name=n%d.disc&type=SRV")},
	{name: "keys", run: floodOf("GET", "/v1/kv/app%d/key")},
	{name: "directories of keys", run: floodOf("GET", "/v1/kv/app%d/?recurse")},
	{name: "limits", run: floodOf("POST", "/v1/limits/l%d/take")},
	{name: "locks", run: floodOf("POST", "/v1/locks/l%d?ttl=10s")},
}

func floodOf(method, path string) func(context.Context, *target) error {
	return func(ctx context.Context, t *target) error {
		return t.flood(ctx, func(n int) string {
			return method + " " + fmt.Sprintf(path, n) + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
		})
	}
}

// post returns a request with a body of which only the beginning is sent.
func post(path, media string, length, sent int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", path, media, length, strings.Repeat("x", sent))
}

// crowd opens more connections than the listener takes, sends the same on each, reads nothing,
// and keeps them until ctx ends. It opens them all, however long that takes.
func (t *target) crowd(ctx context.Context, request string) error {
	conns := make([]net.Conn, t.many)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				abandon(conn)
			}
		}
	}()
	var opening sync.WaitGroup
	var failed error
	var once sync.Once
	const workers = 64
	for w := range workers {
		opening.Go(func() {
			for n := w; n < len(conns); n += workers {
				conn, err := t.connect()
				if errors.Is(err, syscall.EAGAIN) {
					return // a Unix socket whose queue is full
				}
				if err != nil {
					once.Do(func() { failed = err })
					return
				}
				conns[n] = conn
				t.did.Add(1)
				_ = conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // the agent does not read all
				_, _ = io.WriteString(conn, request)                              // it may have closed the connection
			}
		})
	}
	opening.Wait()
	select {
	case <-ctx.Done():
	case <-t.ended:
	}
	return failed
}

// again sends the same over one new connection after another until ctx ends, and at least once.
func (t *target) again(ctx context.Context, request string) error {
	for first := true; first || ctx.Err() == nil; first = false {
		conn, err := t.connect()
		if err != nil {
			return err
		}
		_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := io.WriteString(conn, request); err == nil { // the agent may have closed the connection
			t.did.Add(1)
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<10))
		abandon(conn)
	}
	return nil
}

// flood sends numbered requests over some connections until ctx ends, as fast as the agent
// reads them, and discards the answers.
func (t *target) flood(ctx context.Context, request func(n int) string) error {
	var sending sync.WaitGroup
	const workers = 4
	for w := range workers {
		sending.Go(func() {
			for n := w; ctx.Err() == nil; {
				conn, err := t.connect()
				if err != nil {
					return
				}
				stop := context.AfterFunc(ctx, func() { abandon(conn) })
				go func() { _, _ = io.Copy(io.Discard, conn) }()
				for err == nil {
					if _, err = io.WriteString(conn, request(n)); err == nil {
						t.did.Add(1)
					}
					n += workers
				}
				stop()
				abandon(conn)
			}
		})
	}
	sending.Wait()
	return nil
}

// abandon closes a connection. Over TLS it does not say so to the agent, which may not read.
func abandon(conn net.Conn) {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	conn.Close()
}
