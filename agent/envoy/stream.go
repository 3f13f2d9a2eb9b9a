package envoy

import (
	"errors"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"disc/discovery/view"
)

// variant is how a stream speaks: of the state of the world, or of what has changed.
type variant interface {
	// request returns an empty request, to be read into.
	request() decoder
	// receive takes over what the client says. An error ends the stream.
	receive(decoder) error
	// services returns the services whose changes concern the client; "" is all.
	services() []string
	// due returns the response that the client is to get now, if any.
	due(*view.Snapshot) (encoder, bool)
}

// follow handles streams: it answers each request, and goes on to answer at each change
// of what the client has asked for.
func (v *serving) follow(aggregated bool, variantOf func(*client) variant) grpc.StreamHandler {
	return func(_ any, g grpc.ServerStream) error {
		v.metrics.streams.Inc()
		defer v.metrics.streams.Dec()
		c := &client{Server: v.Server, aggregated: aggregated, log: v.log}
		if p, ok := peer.FromContext(g.Context()); ok {
			c.log = c.log.With("peer", p.Addr.String())
		}
		return v.converse(g, variantOf(c))
	}
}

func (v *serving) converse(g grpc.ServerStream, talk variant) error {
	requests := v.receive(g, talk)
	release := func() {}
	defer func() { release() }()
	for retained := []string(nil); ; {
		if now := talk.services(); !slices.Equal(now, retained) {
			before := release
			release, retained = v.catalog.Retain(partsOf(now)...), now
			before()
		}
		cases := v.wait(g, requests, talk)
		// What was never read is not told of as empty; its first read is a change.
		if view, err := v.catalog.View(); err == nil && v.catalog.Has(partsOf(retained)...) {
			if out, due := talk.due(view.Snapshot); due {
				v.metrics.responses.Inc()
				if err := g.SendMsg(out); err != nil {
					return err
				}
			}
		}
		switch chosen, value, _ := reflect.Select(cases); chosen {
		case onRequest:
			r := value.Interface().(received)
			if errors.Is(r.err, io.EOF) {
				return nil
			}
			if r.err != nil {
				return r.err
			}
			if err := talk.receive(r.message); err != nil {
				return err
			}
		case onStop:
			return status.Error(codes.Unavailable, "the agent is stopping")
		case onEnd:
			return status.FromContextError(g.Context().Err()).Err()
		}
	}
}

// What a conversation waits for, by its place among the cases; changes come after.
const (
	onRequest = iota
	onStop
	onEnd
)

// wait returns the cases of what may happen next.
func (v *serving) wait(g grpc.ServerStream, requests <-chan received, talk variant) []reflect.SelectCase {
	cases := []reflect.SelectCase{onRequest: on(requests), onStop: on(v.stopping), onEnd: on(g.Context().Done())}
	for _, name := range talk.services() {
		cases = append(cases, on(v.catalog.Changed(name)))
	}
	return cases
}

func on[T any](ch <-chan T) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch)}
}

// received is what came in on a stream.
type received struct {
	message decoder
	err     error
}

// receive reads the requests on a stream, one ahead, until it ends.
func (v *serving) receive(g grpc.ServerStream, talk variant) <-chan received {
	requests := make(chan received)
	v.receivers.Go(func() {
		for {
			r := received{message: talk.request()}
			r.err = g.RecvMsg(r.message)
			select {
			case requests <- r:
			case <-g.Context().Done():
				return
			}
			if r.err != nil {
				return
			}
		}
	})
	return requests
}

// client is who is at the other end of a stream, as both variants see it.
type client struct {
	*Server
	aggregated bool // it may ask for resources of all types
	log        *slog.Logger
	nonce      int  // of the last response; 0: there was none
	refused    int  // the last response that was refused
	ignored    bool // it asked for what is not served
}

// next returns the nonce of a new response.
func (c *client) next() string {
	c.nonce++
	return strconv.Itoa(c.nonce)
}

// latest reports whether a request speaks of the last response, or of none.
func (c *client) latest(h head) bool { return h.nonce == "" || h.nonce == strconv.Itoa(c.nonce) }

// served reports whether a request is for what is served here. On an aggregated stream,
// what is not is passed over, since the stream's end would take the endpoints with it.
func (c *client) served(h head) (bool, error) {
	if h.node != "" {
		c.log = c.log.With("node", h.node)
	}
	switch {
	case h.typeURL == typeURL, h.typeURL == "" && !c.aggregated:
		return true, nil
	case !c.aggregated || h.typeURL == "":
		return false, status.Errorf(codes.InvalidArgument, "type_url %q is not served here; ask for %s", h.typeURL, typeURL)
	case !c.ignored:
		c.ignored = true
		c.log.Warn("Envoy asks for what this agent does not have; it serves endpoints alone", "type", h.typeURL)
	}
	return false, nil
}

// note logs that the last response was refused.
func (c *client) note(h head) {
	if !h.refused || !c.latest(h) || c.refused == c.nonce {
		return
	}
	c.refused = c.nonce
	c.metrics.refusals.Inc()
	c.log.Warn("Envoy refuses an update and goes on with what it has", "nonce", h.nonce, "error", h.problem)
}

// tooMany refuses a client that asks for too many clusters.
func tooMany(n int) error {
	if n <= MaxClusters {
		return nil
	}
	return status.Errorf(codes.ResourceExhausted, "%d clusters are too many for one stream; at most %d are allowed", n, MaxClusters)
}
