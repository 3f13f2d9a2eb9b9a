package envoy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"disc/discovery/view"
)

// variant is a variant of the xDS protocol: state of the world, or incremental.
type variant interface {
	// newRequest returns an empty request to decode into.
	newRequest() decoder
	// handle takes a request of the client. An error ends the stream.
	handle(decoder) error
	// services returns the services that the client's clusters depend on; "" is all.
	services() []string
	// nameBytes returns the number of the names that the client is remembered for, and their
	// length in bytes, with that of their versions.
	nameBytes() (names int, bytes int64)
	// nextResponse returns the response that the client should get now, if any.
	nextResponse(*view.Snapshot) (encoder, bool)
}

// streamHandler returns the handler of a gRPC stream: it answers each request, and each
// change of the clusters that the client has asked for.
func (v *serving) streamHandler(aggregated bool, newVariant func(*stream) variant) grpc.StreamHandler {
	return func(_ any, g grpc.ServerStream) error {
		v.metrics.streams.Inc()
		defer v.metrics.streams.Dec()
		s := &stream{Server: v.Server, aggregated: aggregated, log: v.log}
		if p, ok := peer.FromContext(g.Context()); ok {
			s.log = s.log.With("peer", p.Addr.String())
		}
		var last *outgoing
		err := v.runStream(g, newVariant(s), &last)
		if last != nil { // gRPC would keep it after the end of the stream, and not count that
			select {
			case <-last.done:
			case <-g.Context().Done():
			}
		}
		return err
	}
}

// runStream serves a stream until the client, an error or the end of the server ends it.
// It sets last to the last response.
func (v *serving) runStream(g grpc.ServerStream, client variant, last **outgoing) error {
	requests := v.readRequests(g, client)
	sub := newSubscription(v.catalog)
	defer func() { sub.release() }()
	names := nameRoom{in: &v.names}
	defer names.release()
	for {
		sub.set(client.services())
		changed, otherChanged := sub.changed() // before the view is read, or a change could be missed
		if err := v.respond(g, client, sub, last); err != nil {
			return err
		}
		if err := names.set(client.nameBytes()); err != nil { // the response may have brought more
			return err
		}
		select {
		case r := <-requests:
			if errors.Is(r.err, io.EOF) {
				return nil
			}
			if r.err != nil {
				return r.err
			}
			if err := client.handle(r.message); err != nil {
				return err
			}
			if err := names.set(client.nameBytes()); err != nil {
				return err
			}
			sub.invalidate()
		case <-changed:
		case <-otherChanged:
		case <-v.stopping:
			return errStopping
		case <-g.Context().Done():
			return status.FromContextError(g.Context().Err()).Err()
		}
	}
}

// respond sends the response that is due after a request or a change of the subscription.
// Until the view has read the services it sends none: Envoy would take what is unread for
// empty. The first read of a service is a change.
func (v *serving) respond(g grpc.ServerStream, client variant, sub *subscription, last **outgoing) error {
	now, err := v.catalog.View()
	if err != nil || !sub.complete() || !sub.advance(now.Snapshot) {
		return nil //nolint:nilerr // the next change of the view comes back here
	}
	out, err := v.makeResponse(g.Context(), client)
	if out == nil {
		return err
	}
	*last = out
	v.metrics.responses.Inc()
	return g.SendMsg(out)
}

// makeResponse makes the response that is due, if any, and takes room for it.
func (v *serving) makeResponse(ctx context.Context, client variant) (*outgoing, error) {
	if err := v.startBuilding(ctx); err != nil {
		return nil, err
	}
	encoded := v.build(client)
	<-v.building // not kept while the response waits for room
	if encoded == nil {
		return nil, nil
	}
	return v.unread.reserve(ctx, encoded)
}

// startBuilding waits for room and takes one of the places for building. Few responses are made
// at once: each takes several times its own length until it is encoded.
func (v *serving) startBuilding(ctx context.Context) error {
	for {
		if err := v.unread.await(ctx); err != nil {
			return err
		}
		select {
		case v.building <- struct{}{}:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-v.stopping:
			return errStopping
		}
		if v.unread.isOpen() {
			return nil
		}
		<-v.building // others were faster
	}
}

// build encodes the response that is due; nil: none is.
func (v *serving) build(client variant) []byte {
	now, err := v.catalog.View()
	if err != nil {
		return nil // as in respond
	}
	response, due := client.nextResponse(now.Snapshot)
	if !due {
		return nil
	}
	return response.appendTo(make([]byte, 0, leastResponse))
}

var errStopping = status.Error(codes.Unavailable, "the agent is stopping")

// received is a request, or why there is none.
type received struct {
	message decoder
	err     error
}

// readRequests reads the requests of a stream, one ahead, until the stream ends.
func (v *serving) readRequests(g grpc.ServerStream, client variant) <-chan received {
	requests := make(chan received)
	v.readers.Go(func() {
		for {
			r := received{message: client.newRequest()}
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

// stream is the state of a gRPC stream that both variants need.
type stream struct {
	*Server
	aggregated bool // ADS: the client may ask for resources of all types
	log        *slog.Logger
	nonce      int  // of the last response; 0: there was none
	lastNACK   int  // nonce of the last response that was refused
	named      bool // log has the name of the node
	warned     bool // the client asked for a type that is not served
}

// nextNonce returns the nonce of a new response.
func (s *stream) nextNonce() string {
	s.nonce++
	return strconv.Itoa(s.nonce)
}

// isCurrent reports whether a request refers to the last response, or to none.
func (s *stream) isCurrent(h head) bool { return h.nonce == "" || h.nonce == strconv.Itoa(s.nonce) }

// accepts reports whether a request asks for the type that is served here. On an aggregated
// stream it ignores requests for other types: to end the stream would end the endpoints too.
func (s *stream) accepts(h head) (bool, error) {
	if h.node != "" && !s.named {
		s.named, s.log = true, s.log.With("node", shorten(h.node))
	}
	switch {
	case h.typeURL == typeURL, h.typeURL == "" && !s.aggregated:
		return true, nil
	case !s.aggregated || h.typeURL == "":
		return false, status.Errorf(codes.InvalidArgument, "type_url %q is not served here; ask for %s", h.typeURL, typeURL)
	case !s.warned:
		s.warned = true
		s.log.Warn("Envoy asks for a type of resource that this agent does not serve; it serves endpoints only", "type", shorten(h.typeURL))
	}
	return false, nil
}

// recordNACK counts and logs, once for each response, that the client refused the last one.
func (s *stream) recordNACK(h head) {
	if !h.nack || !s.isCurrent(h) || s.lastNACK == s.nonce {
		return
	}
	s.lastNACK = s.nonce
	s.metrics.nacks.Inc()
	s.log.Warn("Envoy refuses an update and keeps the endpoints that it has", "nonce", shorten(h.nonce), "error", shorten(h.errorDetail))
}

// checkClusterCount returns an error when a client asks for more than [MaxClusters].
func checkClusterCount(n int) error {
	if n <= MaxClusters {
		return nil
	}
	return status.Errorf(codes.ResourceExhausted, "%d clusters are too many for one stream; at most %d are allowed", n, MaxClusters)
}

// maxLogged is the most bytes of a client's text that the log has.
const maxLogged = 512

// shorten returns the beginning of a text of a client, for the log.
func shorten(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxLogged)], "") }
