// Package resolver lets gRPC clients dial services by name.
//
//	conn, err := grpc.NewClient("disc:///web",
//		grpc.WithResolvers(resolver.New(source)),
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
//
// The source is a [catalog], which follows etcd itself, or an [AgentSource], this host's
// sidecar; with none given, a target that names an agent, disc://127.0.0.1:3472/web, is
// enough. The path is a lookup name as every protocol takes it: web, v2.web,
// _grpc._tcp.web.svc. A query narrows it: disc:///web?zone=a&tag=v2, ?port=grpc,
// ?prefer=zone.
//
// A client keeps the addresses it has while the source cannot answer. They become none
// only when the source says that nothing is healthy.
//
// [catalog]: disc/discovery/catalog
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

// Scheme is the scheme of the targets that are resolved here.
const Scheme = "disc"

// Source answers lookups and tells of changes. A *catalog.Catalog is one through
// [CatalogSource]; an agent is one through [AgentSource].
type Source interface {
	// Lookup answers a query. index stands for the state of what was asked for.
	Lookup(ctx context.Context, q Query) (answer lookup.Answer, index int64, err error)
	// Wait returns when the state may be another than index, or ctx ends.
	Wait(ctx context.Context, q Query, index int64) error
}

// Query is what a target asks for.
type Query struct {
	Name   string   // a lookup name
	Tags   []string // all of them
	Zone   string
	Port   string // a named port
	Prefer bool   // own zone first
}

// New returns a builder of resolvers over a source. With a nil source, targets name the
// agent to ask: disc://127.0.0.1:3472/web.
func New(source Source) resolver.Builder { return &builder{source} }

type builder struct{ source Source }

// Scheme implements resolver.Builder.
func (*builder) Scheme() string { return Scheme }

// Build implements resolver.Builder.
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
	r := &targetResolver{source: source, query: q, conn: conn, cancel: cancel, resolveNow: make(chan struct{}, 1)}
	r.done.Go(func() { r.run(ctx) })
	return r, nil
}

// parseTarget reads the name and the options of a target.
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

// targetResolver keeps one client's addresses current.
type targetResolver struct {
	source     Source
	query      Query
	conn       resolver.ClientConn
	cancel     context.CancelFunc
	done       sync.WaitGroup
	resolveNow chan struct{} // size one: look again soon
}

// ResolveNow implements resolver.Resolver: gRPC failed to connect to an address. The
// source tells of changes by itself, so this only ends a wait between two errors.
func (r *targetResolver) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.resolveNow <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver.
func (r *targetResolver) Close() {
	r.cancel()
	r.done.Wait()
}

func (r *targetResolver) run(ctx context.Context) {
	var retry retry.Backoff
	for ctx.Err() == nil {
		answer, index, err := r.source.Lookup(ctx, r.query)
		if err == nil {
			retry.Reset()
			r.conn.UpdateState(resolver.State{Endpoints: endpoints(answer)}) // what it returns is the balancer's business
			err = r.source.Wait(ctx, r.query, index)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		r.conn.ReportError(fmt.Errorf("resolve %s: %w", r.query.Name, err)) // the addresses stay
		retry.Failed()
		r.pause(ctx, &retry)
	}
}

// pause waits for the next attempt after an error, or less if gRPC asks for it.
func (r *targetResolver) pause(ctx context.Context, retry *retry.Backoff) {
	timer := time.NewTimer(retry.Next())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.resolveNow:
	case <-ctx.Done():
	}
}

// endpoints turns an answer into gRPC's form, in the answer's order.
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

// Weight returns the weight of an endpoint's instance, 0 to 65535, for balancers.
func Weight(e resolver.Endpoint) int {
	w, _ := e.Attributes.Value(weightKey{}).(int)
	return w
}

// Zone returns the zone of an endpoint's instance; empty: none.
func Zone(e resolver.Endpoint) string {
	z, _ := e.Attributes.Value(zoneKey{}).(string)
	return z
}
