// Package claim holds locks, and slots of instances, in etcd on behalf of an agent's
// callers: for as long as a caller wants, and never longer than the agent's session lasts.
//
//	holder, err := claim.New(client, keys, session, claim.Options{Node: "host-1"})
//	go holder.Run(ctx)
//	grant, err := holder.Lock(ctx, "reports", claim.LockOptions{Wait: time.Minute, TTL: 30 * time.Second})
//	fence := grant.Fence()          // to be checked by what the lock guards
//	err = holder.Renew(grant.ID())  // within the TTL
//	err = holder.Release(ctx, grant.ID())
//
// A claim is a slot of an instance. Which slots are free is known from a watch, so that
// many who claim at once seldom meet: each picks its instance at random, the freer of two,
// and tries up to eight of them in one transaction, which also holds that the instance is
// the same as was seen. One that was gone in between is another, even under the same id.
//
// # How long a grant can be relied on
//
// [Grant.ValidFor] says for how long nobody else can have got what was granted. It ends
// a fifth of the session's TTL before etcd may let the session's lease expire, counted
// from when the last renewal of the lease that etcd answered was sent, and it ends with
// the grant's own TTL. A holder counts it from when it asked, and has stopped using what
// it holds when it ends. A grant whose time has ended is lost for good, even when etcd is
// back before the lease has expired: [Grant.Lost] is closed, and [Manager.Renew] says why.
//
// # What only the fence can do
//
// A holder may be suspended at any moment, between looking at the clock and writing, and
// go on after somebody else has got the lock. No lock service can prevent that. The fence
// can: it is the revision at which etcd took the holder's key, so that a later holder's is
// always higher, and a resource that remembers the highest fence it has seen and refuses
// lower ones is never written to by two holders in turns.
//
// # Nothing is left behind
//
// A call to etcd that is not answered may have been carried out, or still be. Whatever
// lies under the session's lease and belongs to nobody is swept out, again and again
// for a while after such a call, and ends with the lease at the latest.
package claim
