// Package lease keeps an etcd lease alive for as long as an agent runs.
//
// A [Session] has at most one lease at a time. It grants one as soon as etcd can be
// reached, renews it at each third of its TTL and whenever its stream to etcd breaks,
// and grants another when etcd says that the lease is gone, for ever. Whoever keeps
// keys under the lease reads [Session.Lease] and writes the keys again whenever the id
// has changed:
//
//	session, err := lease.New(client, 15*time.Second, lease.Options{})
//	go session.Run(ctx)
//	for {
//		current, changed := session.Lease()
//		if current.ID != 0 {
//			client.Put(ctx, key, value, clientv3.WithLease(current.ID))
//		}
//		<-changed
//	}
//
// Silence is not loss. While etcd does not answer, the session goes on renewing the
// same lease: without a leader no lease expires, and a new leader gives each its full
// TTL again. What must be safe meanwhile (locks, claims) asks [Lease.Remaining],
// which counts from the moment the last answered renewal was sent.
package lease
