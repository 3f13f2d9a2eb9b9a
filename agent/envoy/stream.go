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
	// newRequest returns an empty request, to be read into.
	newRequest() decoder
	// handle takes over what the client says. An error ends the stream.
	handle(decoder) error
	// services returns the services whose changes concern the client; "" is all.
	services() []string
	// nextResponse returns the response that the client is to get now, if any.
	nextResponse(*view.Snapshot) (encoder, bool)
}

// streamHandler handles streams: it answers each request, and goes on to answer at each change
// of what the client has asked for.
func (v *serving) streamHandler(aggregated bool, variantOf func(*stream) variant) grpc.StreamHandler {
	return func(_ any, g grpc.ServerStream) error {
		v.metrics.streams.Inc()
		defer v.metrics.streams.Dec()
		c := &stream{Server: v.Server, aggregated: aggregated, log: v.log}
		if p, ok := peer.FromContext(g.Context()); ok {
			c.log = c.log.With("peer", p.Addr.String())
		}
		return v.runStream(g, variantOf(c))
	}
}

func (v *serving) runStream(g grpc.ServerStream, talk variant) error {
	requests := v.readRequests(g, talk)
	release := func() {}
	defer func() { release() }()
	for retained := []string(nil); ; {
		if now := talk.services(); !slices.Equal(now, retained) {
			before := release
			release, retained = v.catalog.Retain(scopesOf(now)...), now
			before()
		}
		cases := v.wait(g, requests, talk)
		// What was never read is not told of as empty; its first read is a change.
		if view, err := v.catalog.View(); err == nil && v.catalog.Has(scopesOf(retained)...) {
			if out, due := talk.nextResponse(view.Snapshot); due {
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
			if err := talk.handle(r.message); err != nil {
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

// readRequests reads the requests on a stream, one ahead, until it ends.
func (v *serving) readRequests(g grpc.ServerStream, talk variant) <-chan received {
	requests := make(chan received)
	v.readers.Go(func() {
		for {
			r := received{message: talk.newRequest()}
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

// stream is who is at the other end of a stream, as both variants see it.
type stream struct {
	*Server
	aggregated bool // it may ask for resources of all types
	log        *slog.Logger
	nonce      int  // of the last response; 0: there was none
	lastNACK   int  // the last response that was refused
	warned     bool // it asked for what is not served
}

// nextNonce returns the nonce of a new response.
func (c *stream) nextNonce() string {
	c.nonce++
	return strconv.Itoa(c.nonce)
}

// isCurrent reports whether a request speaks of the last response, or of none.
func (c *stream) isCurrent(h head) bool { return h.nonce == "" || h.nonce == strconv.Itoa(c.nonce) }

// accepts reports whether a request is for what is served here. On an aggregated stream,
// what is not is passed over, since the stream's end would take the endpoints with it.
func (c *stream) accepts(h head) (bool, error) {
	if h.node != "" {
		c.log = c.log.With("node", h.node)
	}
	switch {
	case h.typeURL == typeURL, h.typeURL == "" && !c.aggregated:
		return true, nil
	case !c.aggregated || h.typeURL == "":
		return false, status.Errorf(codes.InvalidArgument, "type_url %q is not served here; ask for %s", h.typeURL, typeURL)
	case !c.warned:
		c.warned = true
		c.log.Warn("Envoy asks for what this agent does not have; it serves endpoints alone", "type", h.typeURL)
	}
	return false, nil
}

// recordNACK logs that the last response was refused.
func (c *stream) recordNACK(h head) {
	if !h.nack || !c.isCurrent(h) || c.lastNACK == c.nonce {
		return
	}
	c.lastNACK = c.nonce
	c.metrics.nacks.Inc()
	c.log.Warn("Envoy refuses an update and goes on with what it has", "nonce", h.nonce, "error", h.errorDetail)
}

// checkClusterCount refuses a client that asks for too many clusters.
func checkClusterCount(n int) error {
	if n <= MaxClusters {
		return nil
	}
	return status.Errorf(codes.ResourceExhausted, "%d clusters are too many for one stream; at most %d are allowed", n, MaxClusters)
}
