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
	Catalog     Catalog
	Registrar   Registrar
	Overrides   Overrides
	Agent       AgentStatus
	DNS         DNS
	Envoy       Envoy
	KV          KV
	Locks       Locks
	Claims      Claims
	Limits      Limits
	Quarantines Quarantines
	Suspects    Suspects
	History     History
}

// validate returns an error that names the first backend that is missing.
func (b *Backends) validate() error {
	for _, backend := range []struct {
		name    string
		missing bool
	}{
		{"Catalog", b.Catalog == nil}, {"Registrar", b.Registrar == nil}, {"Overrides", b.Overrides == nil},
		{"Agent", b.Agent == nil}, {"DNS", b.DNS == nil}, {"Envoy", b.Envoy == nil}, {"KV", b.KV == nil},
		{"Locks", b.Locks == nil}, {"Claims", b.Claims == nil}, {"Limits", b.Limits == nil}, {"Quarantines", b.Quarantines == nil},
		{"Suspects", b.Suspects == nil}, {"History", b.History == nil},
	} {
		if backend.missing {
			return fmt.Errorf("backend %s is missing", backend.name)
		}
	}
	return nil
}

// Catalog is the local view of the fleet. Its methods are called by many goroutines at
// once. Those without a context do not block.
type Catalog interface {
	// View returns the newest snapshot and its age; until there is one, an
	// ErrUnavailable that says why.
	View() (view.View, error)

	// RequestProgress has etcd tell up to which revision the view is complete, so that
	// [view.View.Revision] moves on soon where nothing changes. It does not wait.
	RequestProgress()

	// Changed returns a channel that is closed at the next change of a service, whether
	// the view knows it or not; "": of any service or node. The case of the name does not
	// matter. A reader gets the channel before the view, so that it misses no change.
	Changed(service string) <-chan struct{}

	// Events returns the events after a cursor, oldest first, for a reader of a service;
	// "": of all. Events of other services may be among them. It returns at least the
	// events that led to the view that View returned before, and either all or none of
	// those with one cursor. ok is false when the history does not reach back to the
	// cursor, the service was not in the view all the time, or the epoch is another one:
	// the reader starts over from a snapshot.
	Events(service string, after discovery.Cursor) (events []view.Event, ok bool)

	// Ensure returns when the view has the scopes, as far as they exist in etcd. It reads
	// those that the view lacks from etcd, which takes up to a few seconds. The error is
	// that of ctx, or an ErrUnavailable: etcd does not answer.
	Ensure(ctx context.Context, scopes ...discovery.Scope) error

	// Retain keeps the scopes in the view, and watches those that do not exist yet, until
	// release is called. It does not wait for them.
	Retain(scopes ...discovery.Scope) (release func())

	// ServiceNames returns the folded names of all services that have a key in etcd, sorted. The
	// error is an ErrUnavailable.
	ServiceNames(ctx context.Context) ([]string, error)

	// NamesMissing returns why ServiceNames may lack services that are in etcd; nil: it has all.
	NamesMissing() error
}

// History has the changes that the agent saw. Its methods do not block.
type History interface {
	// Read returns the changes that a query selects: the newest or, after a cursor, the oldest.
	// ErrNotFound: the agent keeps none; ErrInvalid: a cursor is not of this run of the agent.
	Read(q HistoryQuery) (api.History, error)

	// Changed returns a channel that is closed at the next change.
	Changed() <-chan struct{}
}

// HistoryQuery selects changes; see [api.HistoryQuery].
type HistoryQuery struct {
	Service, ID   string
	Since, Until  time.Time // zero: no bound
	Before, After string
	Limit         int
	Follow        bool // with After: the reader knows where the changes begin, unless some were skipped
}

// Registrar registers instances through this agent. A registration that it is given has
// the service and id of the path. It is not validated, and its defaults are not filled in.
type Registrar interface {
	// Register stores a registration, and waits until it is in etcd or etcd proves to be
	// unavailable. On an error nothing is stored. ErrInvalid: the registration is invalid;
	// ErrForbidden: it has a check that is not allowed over the API, or the instance comes
	// from the config file; *discovery.ConflictError: another agent has the instance.
	Register(ctx context.Context, r discovery.Registration) (api.Registered, error)

	// Hold is Register for an instance that lives as long as its caller; it is not stored.
	// On an error the hold is the zero value. *ForcedOutError: the instance was taken from this
	// holder by force.
	Hold(ctx context.Context, r discovery.Registration, by Holder) (api.Registered, Hold, error)

	// Deregister removes a registration, and waits for etcd as Register does. ErrNotFound:
	// this agent has no such instance; ErrForbidden: it comes from the config file;
	// ErrConflict: another holder has it, and force is not set. A holder whose instance is
	// removed by force is told.
	Deregister(ctx context.Context, service, id string, by Holder, force bool) (api.Deregistered, error)

	// Report sets the result of a ttl check. ErrNotFound: this agent has no such instance,
	// or the instance no such check; ErrInvalid: the check is not of type ttl.
	Report(ctx context.Context, service, id, check string, report api.CheckReport) error

	// ReportLoad sets the load of an instance; the report is valid. ErrNotFound: this
	// agent has no such instance; *discovery.ConflictError: another agent has it.
	ReportLoad(ctx context.Context, service, id string, load discovery.LoadReport) error

	// Owns reports whether an instance is registered through this agent.
	Owns(service, id string) bool
}

// Hold binds an instance to the caller that registered it.
type Hold struct {
	// Lost is closed when the registration is removed or replaced.
	Lost <-chan struct{}

	// ForcedBy returns who removed the registration by force; "" if nobody did.
	ForcedBy func() string

	// Release ends the hold: the instance is deregistered after 10 s, unless it is held
	// again by then. It is called once and does not block. It has no effect on a later Hold
	// of the same instance.
	Release func()
}

// ForcedOutError refuses to a holder, for a while, what was taken from it by force: many clients
// see only that their request has ended, and hold the instance again at once. It is an
// ErrConflict.
type ForcedOutError struct {
	Service, ID string
	By          string // who forced it
	Until       time.Time
}

func (e *ForcedOutError) Error() string {
	return fmt.Sprintf("%s/%s was %s; a caller with another %s may hold it now, and this holder after %s",
		e.Service, e.ID, forcedOut(e.By), api.HeaderHolder, e.Until.UTC().Format(time.RFC3339))
}

// Is reports that a ForcedOutError is a [discovery.ErrConflict].
func (e *ForcedOutError) Is(target error) bool { return target == discovery.ErrConflict }

// forcedOut says why a registration is lost, as the Disc-Lost of an answer.
func forcedOut(by string) string { return "deregistered by force, by " + by }

// Overrides edits overrides in etcd by compare-and-swap.
type Overrides interface {
	// Patch applies a merge patch (RFC 7396, see [discovery.Override.Patch]) to the
	// override of an instance. It returns the new override and etcd's revision.
	// ErrNotFound: there is no such instance; ErrConflict: the override kept changing;
	// ErrUnavailable: etcd does not answer.
	Patch(ctx context.Context, service, id string, patch []byte) (discovery.Override, int64, error)

	// Delete deletes the override of an instance and returns etcd's revision.
	// ErrNotFound: it has none.
	Delete(ctx context.Context, service, id string) (int64, error)

	// Stored reads what etcd has of an instance.
	Stored(ctx context.Context, service, id string) (api.WhyEtcd, error)
}

// Limits are the fleet-wide rate limits.
type Limits interface {
	// Take takes n tokens of a limit if it has them. ErrInvalid: n is more than the limit
	// ever has; ErrNotFound: there is no such limit; ErrUnavailable: the limit cannot be
	// read from etcd.
	Take(ctx context.Context, name string, n int64) (discovery.Decision, error)

	// List returns all limits, sorted by name, and how much of each is used where usage is true.
	List(ctx context.Context, usage bool) ([]api.Limit, error)

	// Get returns a limit. ErrNotFound: it does not exist.
	Get(ctx context.Context, name string) (discovery.Limit, error)

	// Put creates or replaces a limit. It returns the limit with its defaults filled in,
	// and etcd's revision.
	Put(ctx context.Context, name string, limit discovery.Limit) (stored discovery.Limit, created bool, revision int64, err error)

	// Delete deletes a limit and returns etcd's revision. ErrNotFound: it does not exist.
	Delete(ctx context.Context, name string) (int64, error)
}

// AgentStatus is the state of the agent itself.
type AgentStatus interface {
	// Status returns the agent as /v1/agent answers it.
	Status(ctx context.Context) api.Agent

	// Ready returns why there is no view to answer from, and why registrations of the
	// agent are missing in etcd, or would be after a restart; nil: there is one, and none is.
	Ready() (lookup, registered error)

	// Alive returns an error that names the parts of the agent that are stuck, so that
	// only a restart helps; nil: none is.
	Alive() error
}

// DNS answers DNS over HTTPS.
type DNS interface {
	// Exchange answers the query in a packet in at most limit bytes, and returns the time
	// that the answer may be cached. ErrInvalid: the packet is not a query.
	Exchange(packet []byte, limit int) (answer []byte, ttl time.Duration, err error)

	// JSON answers a question in the JSON form, and returns the time that the answer may
	// be cached. ErrInvalid: DNS does not allow the name or the type.
	JSON(name, qtype string, checkingDisabled bool) (api.DNSAnswer, time.Duration, error)
}

// Envoy answers requests of Envoy for endpoints.
type Envoy interface {
	// Endpoints answers a DiscoveryRequest of version 3 of Envoy's API. Request and
	// response are JSON. unchanged: the caller has the answer, and response is empty.
	// ErrInvalid: the request cannot be read, or asks for something else.
	Endpoints(s *view.Snapshot, request []byte) (response []byte, unchanged bool, err error)

	// Scopes returns the scopes of the view that the answer to a request depends on.
	Scopes(request []byte) []discovery.Scope
}

// KV is the shared key/value state. A prefix is empty or ends in "/".
type KV interface {
	// Get reads a key. ErrNotFound, with the freshness: the key does not exist.
	// ErrUnavailable: it cannot be read, or not as fresh as r asks for.
	Get(ctx context.Context, key string, r api.KVRead) (api.KVItem, KVFreshness, error)

	// GetCached is Get without demands on the freshness, for a key that the agent has a
	// copy of. It does not block. It returns false for other keys: the caller uses Get.
	GetCached(key string) (api.KVItem, KVFreshness, bool)

	// GetAt reads the value that a key had at a revision of etcd, from etcd. ErrNotFound,
	// with the freshness: the key was not there, or etcd has compacted the revision.
	// ErrInvalid: etcd has not reached it.
	GetAt(ctx context.Context, key string, revision int64) (api.KVItem, KVFreshness, error)

	// History reads versions of a key from etcd, at least one. Its errors are those of
	// GetAt.
	History(ctx context.Context, key string, o api.KVHistoryOptions) (api.KVHistory, KVFreshness, error)

	// GetMany reads several keys as they were at one revision. It returns those that exist, in
	// the order of the keys.
	GetMany(ctx context.Context, keys []string, r api.KVRead) (iter.Seq[api.KVItem], KVFreshness, error)

	// List reads the keys below a prefix, sorted. With keysOnly, their values may be missing.
	List(ctx context.Context, prefix string, r api.KVRead, keysOnly bool) (iter.Seq[api.KVItem], KVFreshness, error)

	// Write does all operations in one transaction, or none, and returns etcd's revision.
	// ErrConflict: a condition does not hold; the error names the key.
	Write(ctx context.Context, ops ...api.KVOp) (int64, error)

	// DeleteBelow deletes all keys below a prefix, which is not empty, and returns etcd's
	// revision.
	DeleteBelow(ctx context.Context, prefix string) (int64, error)

	// AwaitChange returns nil when a key, or something below a prefix, may have changed since a
	// read with a freshness. The error is the cause of the end of ctx.
	AwaitChange(ctx context.Context, what string, seen KVFreshness) error

	// Watch keeps the events of a key or below a prefix for Events until release is called.
	Watch(what string) (release func())

	// Snapshot returns the items that a watch of a key or below a prefix begins with.
	// Events continues from its revision.
	Snapshot(ctx context.Context, what string) (iter.Seq[api.KVItem], KVFreshness, error)

	// Events returns the events of a key or below a prefix after a cursor, and the cursor
	// that they reach up to. ok is false when the reader has to start over from a
	// snapshot.
	Events(what string, after discovery.Cursor) (events []api.KVEvent, upTo discovery.Cursor, ok bool)

	// Changed returns a channel that is closed at the next change of the agent's copy.
	Changed() <-chan struct{}
}

// KVFreshness is the revision and the age of an answer.
type KVFreshness struct {
	Revision int64
	Epoch    string // of the agent's copy; empty: the answer was read from etcd
	Index    int64  // another number after each change of the answer
	Age      time.Duration
	Stale    bool
}

// Locks takes locks for callers.
type Locks interface {
	// Lock waits for a lock. With a TTL of 0 the lock lasts until Unlock. lost is closed
	// when the lock is lost. ErrConflict: others have it.
	Lock(ctx context.Context, name string, o api.LockOptions) (l api.Lock, lost <-chan struct{}, err error)

	// Renew restarts the TTL of a lock. ErrLost: the lock is lost; ErrNotFound: it does not
	// exist.
	Renew(name, id string) (api.Lock, error)

	// Unlock releases a lock, if it exists. done is true when it is released in etcd;
	// otherwise it will be, or the lock is another agent's. ErrLost: the lock had ended
	// before, so that others may have had it.
	Unlock(ctx context.Context, name, id string) (done bool, err error)

	// Queues reads all locks that somebody holds or waits for from etcd.
	Queues(ctx context.Context) (api.LockList, error)

	// Queue reads a lock from etcd. ErrNotFound: nobody holds it.
	Queue(ctx context.Context, name string) (api.LockQueue, error)

	// Break takes a lock away from its holder. With ownOnly, only a lock that this agent has
	// granted: otherwise the error is an ErrForbidden. ErrNotFound: nobody holds the lock, or
	// not that holder; ErrInvalid: it has several.
	Break(ctx context.Context, name string, o api.BreakOptions, ownOnly bool) (api.BrokenLock, error)
}

// Quarantines are the times in which no lock and no claim is granted, after etcd has started over.
type Quarantines interface {
	// Get reads the length of quarantines, and the quarantine that goes on, from etcd.
	Get(ctx context.Context) (api.Quarantine, error)

	// SetLength sets the length of quarantines. ErrInvalid: it is out of range; ErrConflict: the
	// change before has not taken effect yet.
	SetLength(ctx context.Context, length time.Duration) (api.Quarantine, error)
}

// Claims claims slots of instances for callers.
type Claims interface {
	// Claim claims a free slot of a healthy instance. With a TTL of 0 the claim lasts until
	// ReleaseClaim. lost is closed when the claim is lost. ErrNotFound: there is no such
	// service; ErrUnavailable: no slot is free.
	Claim(ctx context.Context, service string, o api.ClaimOptions) (c api.Claim, lost <-chan struct{}, err error)

	// RenewClaim restarts the TTL of a claim. ErrLost: the claim is lost; ErrNotFound: it
	// does not exist.
	RenewClaim(claim string) (api.Claim, error)

	// ReleaseClaim releases a claim, if it exists. done is true when it is released in
	// etcd; otherwise it will be, or the claim is another agent's. ErrLost: the claim had
	// ended before, so that others may have had it.
	ReleaseClaim(ctx context.Context, claim string) (done bool, err error)

	// Held reads the claims on a service, or on all services if it is "", from etcd.
	Held(ctx context.Context, service string) (api.ClaimList, error)
}

// Suspects are the orders of operators on instances that vanished together with many others.
type Suspects interface {
	// Order returns the order on an instance, as far as this agent knows; the zero value: there is
	// none. It does not block.
	Order(service, id string) discovery.SuspectOrder

	// Give writes an order for all agents, and returns it with its times; keep is the time of an
	// order to keep. ErrInvalid: it is out of range; ErrConflict: the instance is registered
	// again, or the feature level does not allow orders.
	Give(ctx context.Context, service, id string, order discovery.SuspectOrder, keep time.Duration) (discovery.SuspectOrder, error)
}
