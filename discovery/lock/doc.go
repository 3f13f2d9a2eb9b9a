// Package lock grants locks in etcd to an agent's callers: for as long as a caller wants,
// and never longer than the agent's session lasts.
//
//	locks, err := lock.New(client, keys, session, present, lock.Options{Node: "host-1"}) // present: a life.Life
//	go locks.Run(ctx)
//	grant, err := locks.Lock(ctx, "reports", lock.Request{Wait: time.Minute, TTL: 30 * time.Second})
//	fence := grant.Fence()                               // checked by the resource that the lock guards
//	grant, err = locks.Renew("reports", grant.ID())      // within the TTL
//	done, err := locks.Release(ctx, "reports", grant.ID())
//
// # How long a grant can be relied on
//
// [Grant.ValidFor] returns the time for which nobody else can get the lock. It ends a fifth
// of the session's TTL before etcd may let the session's lease expire, counted from when the
// last renewal of the lease that etcd answered was sent. It ends no later than four fifths of
// a quarantine after etcd was last seen to go on (package life), and with the grant's own TTL.
// A holder counts it from when it sent its request, and stops using the lock before it ends.
// A grant whose time has ended is lost for good, even when etcd is back before the lease has
// expired: [Grant.Lost] is closed, and [Manager.Renew] returns the reason.
//
// A grant is held while its key in etcd is as it was written. The manager watches the keys of
// its grants, and reads them after each break of contact with etcd and from time to time. A
// grant that is lost early keeps its key until what was promised has ended.
//
// # What only the fence can do
//
// A holder may be suspended at any moment, also between reading the clock and writing, and
// continue after somebody else has got the lock. No lock service can prevent that. The fence
// can: it is the create revision of the holder's key in etcd, added to a base that rises when
// etcd was restored or wiped, so that each later holder has a higher fence. A resource that remembers the highest fence it has seen, and refuses
// lower ones, never accepts a write of an earlier holder after one of a later holder.
//
// # No orphans are left behind
//
// A call to etcd that is not answered may have been carried out, or still be. The manager
// therefore removes orphans: keys under the session's lease that belong to no grant. It
// looks for them repeatedly for a minute after such a call, and after contact with etcd has
// broken, since a restore may bring keys back; at the latest, an orphan ends with the lease.
//
// # Other kinds of grants
//
// Locks are one kind of grants. A package that grants something else under the same session,
// such as package claim, creates an [Issuer] of its own: it has the same expiry, loss,
// orphans and metrics, with keys and a condition of loss of its own ([Resource]).
package lock
