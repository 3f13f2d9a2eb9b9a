package httpapi

import (
	"context"
	"fmt"
	"iter"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

// Backends are the parts of the agent that an API answers from. All are required.
type Backends struct {
	Catalog   Catalog
	Registrar Registrar
	Overrides Overrides
	Agent     AgentStatus
	DNS       DNS
	Envoy     Envoy
	KV        KV
	Locks     Locks
	Claims    Claims
	Limits    Limits
}

// validate returns an error that names the first backend that is missing.
func (b *Backends) validate() error {
	for _, backend := range []struct {
		name    string
		missing bool
	}{
		{"Catalog", b.Catalog == nil}, {"Registrar", b.Registrar == nil}, {"Overrides", b.Overrides == nil},
		{"Agent", b.Agent == nil}, {"DNS", b.DNS == nil}, {"Envoy", b.Envoy == nil}, {"KV", b.KV == nil},
		{"Locks", b.Locks == nil}, {"Claims", b.Claims == nil}, {"Limits", b.Limits == nil},
	} {
		if backend.missing {
			return fmt.Errorf("backend %s is missing", backend.name)
		}
	}
	return nil
}

// Catalog is the local view of the fleet. Its methods are called by many requests at
// once. Those without a context do not block.
type Catalog interface {
	// View returns the newest snapshot and how sure it is; until there is one, an
	// ErrUnavailable that says why.
	View() (view.View, error)

	// Changed returns a channel that is closed at the next change of a service,
	// known or not, whatever the case of its name; "" is any change of services or
	// nodes. A reader takes the channel first and the view second, so that it misses
	// nothing.
	Changed(service string) <-chan struct{}

	// Events returns the events after a position, oldest first, for a reader of a
	// service, or of everything with ""; there may be those of others among them, and
	// none is fine. It has at least those that led to the view that View returned
	// before, and all or none of one position. ok is false when the log does not reach
	// back to that position, the service was not in the view all the time, or the
	// epoch is another: the reader starts over from a snapshot.
	Events(service string, after discovery.Cursor) (events []view.Event, ok bool)

	// Ensure makes the view have parts, as far as they exist: at once what it has, and
	// by reading etcd, within a few seconds, what nobody has asked for before. It
	// fails with an ErrUnavailable when etcd does not answer, or with ctx.
	Ensure(ctx context.Context, parts ...discovery.Scope) error

	// Retain keeps parts in the view, and those that do not exist yet in sight, until
	// release is called. It does not wait.
	Retain(parts ...discovery.Scope) (release func())

	// Names returns the folded names of all services that have anything in etcd,
	// sorted. The error is an ErrUnavailable.
	Names(ctx context.Context) ([]string, error)
}

// Registrar registers instances through this agent. What it is given has the
// service and id of the path, is not validated and has no defaults filled in.
type Registrar interface {
	// Register remembers a registration and waits until it is in etcd or etcd turns
	// out to be away. On an error nothing is remembered: an ErrInvalid, an
	// ErrForbidden (a check that the API may not give, an instance of the config
	// file), or a *discovery.ConflictError that names the holder.
	Register(ctx context.Context, r discovery.Registration) (api.Registered, error)

	// Hold is Register for an instance that is bound to its caller and never
	// remembered. After release it is deregistered within 10 s, unless it is held
	// again by then. release does not block and is called once; it has no effect on
	// a later Hold of the same instance. release is nil on an error.
	Hold(ctx context.Context, r discovery.Registration) (reg api.Registered, release func(), err error)

	// Deregister forgets a registration, and waits as Register does until etcd has.
	// ErrNotFound: this agent has no such instance; ErrForbidden: it comes from the
	// config file.
	Deregister(ctx context.Context, service, id string) (api.Deregistered, error)

	// Report is a ttl check's result. ErrNotFound: this agent has no such instance,
	// or the instance no such check; ErrInvalid: the check is not of type ttl.
	Report(ctx context.Context, service, id, check string, report api.CheckReport) error

	// ReportLoad is how busy an instance says it is; the report is valid. ErrNotFound:
	// this agent has no such instance; a *discovery.ConflictError: another has it.
	ReportLoad(ctx context.Context, service, id string, load discovery.LoadReport) error

	// Owns reports whether an instance is registered through this agent.
	Owns(service, id string) bool
}

// Overrides edits overrides in etcd by compare-and-swap.
type Overrides interface {
	// Patch lays a merge patch (RFC 7396, see [discovery.Override.Patch]) over the
	// override of an instance, and returns what it is now and etcd's revision.
	// ErrNotFound: there is no such instance; ErrConflict: it changed all the time;
	// ErrUnavailable: etcd is away.
	Patch(ctx context.Context, service, id string, patch []byte) (discovery.Override, int64, error)

	// Delete removes an override and returns etcd's revision. ErrNotFound: there is
	// none.
	Delete(ctx context.Context, service, id string) (int64, error)
}

// Limits keeps fleet-wide rate limits.
type Limits interface {
	// Take takes n tokens, and says whether it got them. ErrInvalid: more than can ever
	// be taken at once; ErrNotFound: there is no such limit; ErrUnavailable: etcd cannot
	// say what the limit is.
	Take(ctx context.Context, name string, n int64) (discovery.Decision, error)

	// List returns all limits, sorted by name.
	List(ctx context.Context) ([]api.Limit, error)

	// Get returns a limit. ErrNotFound: there is none.
	Get(ctx context.Context, name string) (discovery.Limit, error)

	// Put makes or changes a limit, fills in its defaults, and returns it with etcd's
	// revision.
	Put(ctx context.Context, name string, limit discovery.Limit) (is discovery.Limit, created bool, revision int64, err error)

	// Delete removes a limit, and returns etcd's revision. ErrNotFound: there is none.
	Delete(ctx context.Context, name string) (int64, error)
}

// AgentStatus tells of the agent itself.
type AgentStatus interface {
	Status() api.Agent

	// Ready says why there is no view to answer from, and why not all wanted records
	// are in etcd; nil each when it is as it should be.
	Ready() (lookup, registered error)

	// Alive says what of the agent is stuck, so that only a restart helps; nil when
	// nothing is.
	Alive() error
}

// DNS answers queries in the forms of DNS over HTTPS.
type DNS interface {
	// Exchange answers a packet in at most limit bytes, and says for how long the
	// answer may be kept. ErrInvalid: the packet is no query.
	Exchange(packet []byte, limit int) (answer []byte, ttl time.Duration, err error)

	// JSON answers a question in JSON. ErrInvalid: there is no such name or type.
	JSON(name, qtype string, checkingDisabled bool) (api.DNSAnswer, time.Duration, error)
}

// Envoy answers Envoy's requests for endpoints.
type Envoy interface {
	// Endpoints answers a DiscoveryRequest of Envoy's API, version 3, in JSON both.
	// unchanged, with no response, means that the caller has what it asks for.
	// ErrInvalid: it cannot be read, or asks for something else.
	Endpoints(s *view.Snapshot, request []byte) (response []byte, unchanged bool, err error)

	// Scopes returns the parts of the view that the answer to a request lies in.
	Scopes(request []byte) []discovery.Scope
}

// KV reads and writes shared key/value state. A prefix is empty or ends in "/".
type KV interface {
	// Get reads a key. ErrNotFound, with its view: it is not there. ErrUnavailable: it
	// cannot be read, or not as fresh as it is asked for.
	Get(ctx context.Context, key string, r api.KVRead) (api.KVItem, KVFreshness, error)

	// GetCached reads a key that the agent has a copy of, with as little care as a Get that
	// asks for none. It does not wait, and reports false where Get is to be asked.
	GetCached(key string) (api.KVItem, KVFreshness, bool)

	// List reads what lies below a prefix, sorted by key.
	List(ctx context.Context, prefix string, r api.KVRead) (iter.Seq[api.KVItem], KVFreshness, error)

	// Write makes all operations at once, or none, and returns etcd's revision. A
	// condition that does not hold is an ErrConflict that names the key.
	Write(ctx context.Context, ops ...api.KVOp) (int64, error)

	// DeleteBelow deletes all below a prefix, which is not empty, and returns etcd's revision.
	DeleteBelow(ctx context.Context, prefix string) (int64, error)

	// Snapshot returns what a watch of a key or below a prefix begins with; Events go on
	// from its view.
	Snapshot(ctx context.Context, what string) (iter.Seq[api.KVItem], KVFreshness, error)

	// Events returns what happened to a key or below a prefix after a position, and up to
	// where. ok is false when the reader has to start over from a list.
	Events(what string, after discovery.Cursor) (events []api.KVEvent, upTo discovery.Cursor, ok bool)

	// Changed returns a channel that is closed at the next change of what is copied.
	Changed() <-chan struct{}
}

// KVFreshness says how sure an answer is.
type KVFreshness struct {
	Revision int64
	Epoch    string // "": etcd was asked
	Index    int64  // another after each change of what was asked for
	Age      time.Duration
	Stale    bool
}

// Locks takes locks on behalf of callers.
type Locks interface {
	// Lock waits for a lock. With a TTL of 0 it lasts until it is unlocked. lost is
	// closed when it is lost. ErrConflict: somebody else has it.
	Lock(ctx context.Context, name string, o api.LockOptions) (l api.Lock, lost <-chan struct{}, err error)

	// Renew begins a lock's TTL anew. ErrLost: it is lost; ErrNotFound: there is none.
	Renew(name, id string) (api.Lock, error)

	// Unlock releases a lock, whether or not there is one. done tells that etcd has let
	// it go; else it will, or the lock is another agent's.
	Unlock(ctx context.Context, name, id string) (done bool)
}

// Claims claims slots of instances on behalf of callers.
type Claims interface {
	// Claim takes a free slot of a healthy instance. With a TTL of 0 it is held until it
	// is released. lost is closed when it is lost. ErrNotFound: there is no such
	// service; ErrUnavailable: nothing is free.
	Claim(ctx context.Context, service string, o api.ClaimOptions) (c api.Claim, lost <-chan struct{}, err error)

	// RenewClaim begins a claim's TTL anew. ErrLost: it is lost; ErrNotFound: there is
	// none.
	RenewClaim(claim string) (api.Claim, error)

	// ReleaseClaim releases a claim, whether or not there is one. done tells that etcd
	// has let it go; else it will, or the claim is another agent's.
	ReleaseClaim(ctx context.Context, claim string) (done bool)
}
