package attack_test

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	adsPath   = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
	deltaPath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
	limitPath = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
	edsType   = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// grpcAttacks are attacks on what the gRPC listener serves.
var grpcAttacks = []attack{
	{name: "idle connections", run: func(ctx context.Context, t *target) error { return t.crowd(ctx, "") }},
	{name: "streams", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, 100, 100, func(c *wire, _ int) error {
			_, err := c.request("POST", adsPath, false, grpcHeaders...)
			return err
		})
	}},
	{name: "streams of many clusters", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, 8, 64, func(c *wire, n int) error {
			return c.call(adsPath, names(3, 4, n*10_000, 9_999))
		})
	}},
	{name: "streams of many clusters that are not read", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, 8, 64, func(c *wire, n int) error {
			return c.call(adsPath, names(3, 4, 0, 9_999))
		}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	}},
	{name: "all services, not read", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, 16, 64, func(c *wire, _ int) error { return c.call(adsPath, names(3, 4, 0, 0)) },
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	}},
	{name: "all services, read", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, 8, 64, func(c *wire, _ int) error {
			if c.next == 1 {
				if err := c.WriteWindowUpdate(0, maxWindow-65535); err != nil {
					return err
				}
			}
			return c.call(adsPath, names(3, 4, 0, 0))
		}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	}, long: 4}, // so that all streams are answered
	{name: "ever more clusters of a stream", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, 8, 4, func(c *wire, n int) error {
			if err := c.call(deltaPath, names(3, 2, n*10_000, 2_000)); err != nil {
				return err
			}
			for k := range 10 {
				if err := c.message(c.next-2, names(3, 2, n*10_000+k*2_000, 2_000), false); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "unfinished requests", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, 16, 64, func(c *wire, _ int) error {
			id, err := c.request("POST", adsPath, false, grpcHeaders...)
			if err != nil {
				return err
			}
			return c.message(id, make([]byte, 250_000), true)
		})
	}},
	{name: "requests that are too large", run: func(ctx context.Context, t *target) error {
		return t.hold(ctx, 16, 64, func(c *wire, _ int) error { return c.call(adsPath, make([]byte, 1<<20)) })
	}},
	{name: "calls with very many descriptors", run: func(ctx context.Context, t *target) error {
		var request []byte
		for range 100_000 {
			request = protowire.AppendBytes(protowire.AppendTag(request, 2, protowire.BytesType), nil)
		}
		return t.hold(ctx, 8, 64, func(c *wire, _ int) error { return c.call(limitPath, request) })
	}},
}

// names returns a request for numbered clusters: the field of their names and that of the type
// depend on the kind of the request.
func names(name, kind protowire.Number, from, n int) []byte {
	request := protowire.AppendString(protowire.AppendTag(nil, kind, protowire.BytesType), edsType)
	for k := range n {
		request = protowire.AppendString(protowire.AppendTag(request, name, protowire.BytesType), fmt.Sprint("c", from+k))
	}
	return request
}

// call opens a stream and sends a request on it.
func (c *wire) call(path string, request []byte) error {
	id, err := c.request("POST", path, false, grpcHeaders...)
	if err != nil {
		return err
	}
	return c.message(id, request, false)
}

// message queues a message; one that is unfinished lacks its last byte.
func (c *wire) message(id uint32, message []byte, unfinished bool) error {
	framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	if unfinished {
		framed = framed[:len(framed)-1]
	}
	c.pending[id] = append(c.pending[id], framed...)
	return nil
}
