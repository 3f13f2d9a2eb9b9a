// Package resolver lets gRPC clients dial services by name.
//
//	conn, err := grpc.NewClient("disc:///web",
//		grpc.WithResolvers(resolver.New(source)),
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
//
// The source is a [CatalogSource], which watches etcd itself, or an [AgentSource], which
// asks this host's agent. Without a source, the target names an agent:
// disc://127.0.0.1:3472/web. The path is a lookup name as in all protocols: web, v2.web,
// _grpc._tcp.web.svc. A query narrows it: disc:///web?zone=a&tag=v2, ?port=grpc,
// ?prefer=zone.
//
// While the source cannot answer, a client keeps its addresses. It loses them only when
// the source answers that no instance is healthy.
package resolver

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/retry"
)

// Scheme is the scheme of the targets of this resolver.
const Scheme = "disc"

// Source answers lookups and reports changes: a [CatalogSource] from a catalog in this
// process, an [AgentSource] from an agent.
type Source interface {
	// Lookup answers a query. index is another number after each change of the service.
	Lookup(ctx context.Context, q Query) (answer lookup.Answer, index int64, err error)
	// Wait returns nil when the index may have changed from index, or the error if it
	// cannot tell or ctx ends.
	Wait(ctx context.Context, q Query, index int64) error
}

// Query is a parsed target.
type Query struct {
	Name   string   // a lookup name
	Tags   []string // all of these
	Zone   string   // empty: any
	Port   string   // a named port; empty: the main one
	Prefer bool     // entries of the own zone first
}

// New returns a builder of resolvers that ask a source. A target that names an agent, such
// as disc://127.0.0.1:3472/web, asks that agent instead; with a nil source, each must.
func New(source Source) resolver.Builder { return &builder{source} }

type builder struct{ source Source }

// Scheme implements resolver.Builder.
func (*builder) Scheme() string { return Scheme }

// Build implements resolver.Builder. It returns a [discovery.ErrInvalid] for a target that
// is not valid.
func (b *builder) Build(target resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	q, err := parseTarget(target.URL)
	if err != nil {
		return nil, err
	}
	source := b.source
	switch {
	case target.URL.Host != "":
		source = &AgentSource{BaseURL: "http://" + target.URL.Host}
	case source == nil:
		return nil, discovery.Errorf(discovery.ErrInvalid, "target %q names no agent, and the resolver has no source; write %s://127.0.0.1:3472/%s", target.String(), Scheme, q.Name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &targetResolver{source: source, query: q, conn: conn, cancel: cancel, resolveNow: retry.NewSignal()}
	r.done.Go(func() { r.run(ctx) })
	return r, nil
}

// parseTarget parses the name and the options of a target.
func parseTarget(target url.URL) (Query, error) {
	q := Query{Name: strings.TrimPrefix(target.Path, "/")}
	if q.Name == "" {
		return Query{}, discovery.Errorf(discovery.ErrInvalid, "target %q has no name; write %s:///web", target.String(), Scheme)
	}
	for key, values := range target.Query() {
		switch key {
		case "tag":
			q.Tags = values
		case "zone":
			q.Zone = values[0]
		case "port":
			q.Port = values[0]
		case "prefer":
			if values[0] != "zone" {
				return Query{}, discovery.Errorf(discovery.ErrInvalid, "target %q: prefer=%s is unknown; use prefer=zone", target.String(), values[0])
			}
			q.Prefer = true
		default:
			return Query{}, discovery.Errorf(discovery.ErrInvalid, "target %q: option %q is unknown; use tag, zone, port and prefer", target.String(), key)
		}
	}
	return q, nil
}

// targetResolver keeps the addresses of one client current.
type targetResolver struct {
	source     Source
	query      Query
	conn       resolver.ClientConn
	cancel     context.CancelFunc
	done       sync.WaitGroup
	resolveNow retry.Signal // try again at once
}

// ResolveNow implements resolver.Resolver: gRPC could not connect to an address. The source
// reports changes by itself, so ResolveNow only cuts the wait after an error short.
func (r *targetResolver) ResolveNow(resolver.ResolveNowOptions) {
	r.resolveNow.Notify()
}

// Close implements resolver.Resolver.
func (r *targetResolver) Close() {
	r.cancel()
	r.done.Wait()
}

func (r *targetResolver) run(ctx context.Context) {
	var backoff retry.Backoff
	for ctx.Err() == nil {
		answer, index, err := r.source.Lookup(ctx, r.query)
		if err == nil {
			backoff.Reset()
			_ = r.conn.UpdateState(resolver.State{Endpoints: endpoints(answer)}) // its error is for resolvers that poll
			err = r.source.Wait(ctx, r.query, index)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		r.conn.ReportError(fmt.Errorf("resolve %s: %w", r.query.Name, err)) // the addresses stay
		backoff.Failed()
		r.pause(ctx, &backoff)
	}
}

// pause waits before the next attempt after an error, until gRPC calls ResolveNow at most.
func (r *targetResolver) pause(ctx context.Context, backoff *retry.Backoff) {
	timer := time.NewTimer(backoff.Next())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.resolveNow:
	case <-ctx.Done():
	}
}

// endpoints returns the endpoints of an answer as gRPC's, in the same order.
func endpoints(answer lookup.Answer) []resolver.Endpoint {
	all := make([]resolver.Endpoint, 0, len(answer.Endpoints))
	for _, e := range answer.Endpoints {
		about := attributes.New(weightKey{}, e.Weight).WithValue(zoneKey{}, e.Zone)
		at := resolver.Address{Addr: net.JoinHostPort(e.Address, strconv.Itoa(e.Port))}
		all = append(all, resolver.Endpoint{Addresses: []resolver.Address{at}, Attributes: about})
	}
	return all
}

type (
	weightKey struct{}
	zoneKey   struct{}
)

// Weight returns the weight of an endpoint's instance, 0 to [discovery.MaxWeight], for
// balancers.
func Weight(e resolver.Endpoint) int {
	w, _ := e.Attributes.Value(weightKey{}).(int)
	return w
}

// Zone returns the zone of an endpoint's instance; empty: none.
func Zone(e resolver.Endpoint) string {
	z, _ := e.Attributes.Value(zoneKey{}).(string)
	return z
}
