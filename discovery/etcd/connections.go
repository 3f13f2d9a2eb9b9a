package etcd

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/connect"
	"disc/discovery/retry"
)

// connections knows, by endpoint, why there is no connection to it. gRPC would tell only a
// call that does not wait for a connection, and clientv3 replaces such errors by that of the
// call's context.
type connections struct {
	endpoints []string // as they were configured
	log       *slog.Logger
	proxy     string        // through which gRPC connects; "": none
	keep      time.Duration // how long a state counts after it was recorded

	mu    sync.Mutex
	state map[string]*endpointState // by address
}

// endpointState is the state of the connections to an endpoint. It has several: the client's,
// and those of single parts. The last attempt of any of them counts.
type endpointState struct {
	failed   *connect.Failure // of the last attempt that has ended; nil: it succeeded
	waiting  string           // what the attempt under way waits for; "": there is none
	recorded time.Time        // when failed or waiting was last set
	failures retry.Backoff    // since the last success
	logged   *connect.Failure // that the log has; nil: none since the last success
}

// connectionsKey is the key of connections in the context of a client.
type connectionsKey struct{}

// connectionsOf returns the connections of a client; nil if there is none, or Dial did not make it.
func connectionsOf(client *clientv3.Client) *connections {
	if client == nil {
		return nil
	}
	c, _ := client.Ctx().Value(connectionsKey{}).(*connections)
	return c
}

// newConnections returns the state of connections of which an attempt to connect takes timeout
// at most.
func newConnections(endpoints []string, timeout time.Duration, log *slog.Logger) *connections {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &connections{endpoints: endpoints, log: log, keep: timeout + time.Minute, state: map[string]*endpointState{}}
	for _, endpoint := range endpoints {
		c.state[addressOf(endpoint)] = &endpointState{}
		c.proxy = cmp.Or(c.proxy, proxyOf(endpoint))
	}
	return c
}

// addressOf returns the address that gRPC dials for an endpoint: host and port, or the last
// part of a socket's path.
func addressOf(endpoint string) string {
	scheme, rest, found := strings.Cut(endpoint, ":")
	switch {
	case found && (scheme == "unix" || scheme == "unixs"):
		return rest[strings.LastIndex(rest, "/")+1:]
	case found && strings.HasPrefix(rest, "//"):
		return strings.TrimPrefix(rest, "//")
	}
	return endpoint
}

// waits records what an attempt to connect waits for.
func (c *connections) waits(address, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.state[address]; s != nil {
		s.waiting, s.recorded = what, time.Now()
	}
}

// failed records that an attempt to connect has failed.
func (c *connections) failed(address string, f connect.Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state[address]
	if s == nil {
		return
	}
	s.failed, s.waiting, s.recorded = &f, "", time.Now()
	if due := s.failures.Failed(); s.logged == nil || due && f.Reason != s.logged.Reason || differs(f, *s.logged) {
		s.logged = &f
		c.log.Warn("cannot connect to etcd; trying again", "endpoint", c.endpointAt(address), "error", f.Reason, "hint", hint(f.Kind))
	}
}

// differs reports whether two failures have different causes, as far as their kinds and
// reasons tell. The reasons of other kinds than these differ from time to time for one cause.
func differs(a, b connect.Failure) bool {
	steady := []connect.Kind{connect.Refused, connect.NotPermitted, connect.Local, connect.NoAnswer, connect.UnknownAuthority, connect.WrongName, connect.OtherProtocol}
	return a.Kind != b.Kind || a.Reason != b.Reason && slices.Contains(steady, a.Kind)
}

// ready records that there is a connection.
func (c *connections) ready(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state[address]
	if s == nil {
		return
	}
	if s.logged != nil {
		c.log.Info("connected to etcd again", "endpoint", c.endpointAt(address))
	}
	*s = endpointState{}
}

// endpointAt returns the endpoint with an address.
func (c *connections) endpointAt(address string) string {
	n := slices.IndexFunc(c.endpoints, func(endpoint string) bool { return addressOf(endpoint) == address })
	return c.endpoints[n]
}

// trouble is what is known of the endpoints that cannot be used.
type trouble struct {
	what  []string // the reason, or what is waited for, with the endpoint where they differ
	hints []string
	all   bool // all endpoints have failed
}

// trouble returns what is known of those of some endpoints that cannot be used.
func (c *connections) trouble(endpoints []string) trouble {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, reasons := trouble{all: true}, []string{}
	if c.proxy != "" {
		t.hints = append(t.hints, c.proxyHint())
	}
	for _, endpoint := range endpoints {
		s := c.state[addressOf(endpoint)]
		if s == nil {
			return trouble{}
		}
		if time.Since(s.recorded) > c.keep { // nothing connects to it any more: gRPC tries again within seconds
			s = &endpointState{}
		}
		reason, kind := s.waiting, connect.NoAnswer
		if s.failed != nil {
			reason, kind = s.failed.Reason, s.failed.Kind
		}
		t.all = t.all && s.failed != nil
		if reason == "" {
			continue
		}
		reasons = append(reasons, reason)
		t.what = append(t.what, endpoint+": "+reason)
		if h := hint(kind); !slices.Contains(t.hints, h) {
			t.hints = append(t.hints, h)
		}
	}
	if len(reasons) == len(endpoints) && len(slices.Compact(slices.Clone(reasons))) == 1 {
		t.what = reasons[:1]
	}
	return t
}

// text says what is known of etcd at some endpoints that cannot be used, and what to do.
func (t trouble) text(endpoints []string, state string) string {
	return named(endpoints) + " " + state + ": " + t.details()
}

func (t trouble) details() string { return strings.Join(slices.Concat(t.what, t.hints), "; ") }

// Unreachable returns an [discovery.ErrUnavailable] that says why a client of [Dial] has no
// connection to some of its endpoints, or with none to any. It is nil unless the last attempt
// to connect failed at each of them; for endpoints that are given, an attempt that still waits
// for an answer is a reason too.
func Unreachable(client *clientv3.Client, endpoints ...string) error {
	c := connectionsOf(client)
	if c == nil {
		return nil
	}
	given := len(endpoints) > 0
	if !given {
		endpoints = c.endpoints
	}
	t := c.trouble(endpoints)
	if !t.all && !(given && len(t.what) > 0) {
		return nil
	}
	return discovery.Errorf(discovery.ErrUnavailable, "%s", t.text(endpoints, "cannot be reached"))
}

// NoConnection returns the error of [Unreachable], or one without a cause where none is known.
func NoConnection(client *clientv3.Client, endpoints ...string) error {
	if err := Unreachable(client, endpoints...); err != nil {
		return err
	}
	if len(endpoints) == 0 {
		endpoints = client.Endpoints()
	}
	return discovery.Errorf(discovery.ErrUnavailable, "%s cannot be reached; %s", named(endpoints), connectionsOf(client).ask())
}

// name names etcd, with its endpoints.
func (c *connections) name() string { return named(c.endpoints) }

func named(endpoints []string) string { return "etcd at " + strings.Join(endpoints, ",") }

// askAll is the hint for an error that may have any cause.
const askAll = "is it running, and are --endpoints and the TLS settings right?"

// ask is the hint for an error of these connections that may have any cause.
func (c *connections) ask() string {
	if c == nil || c.proxy == "" {
		return askAll
	}
	return c.proxyHint() + "; " + askAll
}

func (c *connections) proxyHint() string {
	return "the connection goes through proxy " + c.proxy + "; set NO_PROXY if it should not"
}

// hint says what to do about a failure to connect.
func hint(kind connect.Kind) string {
	switch kind {
	case connect.Refused:
		return "is it running, and is --endpoints right?"
	case connect.NotPermitted:
		return "join the group of the socket, or name another address in --endpoints"
	case connect.Local:
		return "the cause lies on this host: see its limits and its firewall"
	case connect.NoHost:
		return "is the name in --endpoints right, and does this host's resolver know it?"
	case connect.NoAnswer:
		return "is --endpoints right, is it running, and does no firewall lie between?"
	case connect.UnknownAuthority:
		return "name the file of its CA certificates with --cacert"
	case connect.WrongName:
		return "use a name of its certificate in --endpoints, or set etcd.server_name"
	case connect.BadCertificate:
		return "renew its certificate, and compare the clocks"
	case connect.ClientCertificate:
		return "give a client certificate that its CA has signed, with --cert and --key"
	case connect.PlainServer:
		return "it has no TLS: write --endpoints with http:// and without certificates, or is the port wrong?"
	case connect.TLSServer:
		return "if it has TLS, write --endpoints with https://, and name the file of its CA certificates with --cacert"
	case connect.OtherProtocol:
		return "is the port in --endpoints that of etcd's clients (2379)?"
	}
	return askAll
}

// noAnswer says why a call had no answer before its context ended.
func (c *connections) noAnswer() string {
	switch t := c.trouble(c.endpoints); {
	case t.all:
		return t.text(c.endpoints, "cannot be reached")
	case len(t.what) > 0:
		return t.text(c.endpoints, "did not answer in time")
	}
	return c.name() + " did not answer in time; " + c.ask()
}

// noConnection says why a call had no connection, or lost it; message is gRPC's.
func (c *connections) noConnection(message string) string {
	switch t := c.trouble(c.endpoints); {
	case t.all, len(t.what) > 0 && strings.Contains(message, "connection error: "):
		return t.text(c.endpoints, "cannot be reached")
	case len(t.what) > 0:
		return fmt.Sprintf("%s cannot be reached: %s; %s", c.name(), message, t.details())
	}
	return fmt.Sprintf("%s cannot be reached: %s; %s", c.name(), message, c.ask())
}

// clientContext returns the context of a client, by which its connections are found.
func (c *connections) clientContext() context.Context {
	return context.WithValue(context.Background(), connectionsKey{}, c)
}
