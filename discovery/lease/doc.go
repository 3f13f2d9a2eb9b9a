// Package lease keeps an etcd lease alive for as long as an agent runs.
//
// A [Session] has at most one lease at a time. It grants a lease as soon as etcd can be
// reached, and renews it at each third of its TTL and whenever its stream to etcd breaks.
// When etcd says that the lease is gone, the session grants another, without a limit on
// how often. A user that puts keys under the lease reads [Session.Lease] and writes the
// keys again whenever the id has changed:
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
// Silence is not loss. While etcd does not answer, the session keeps renewing the same
// lease: without a leader no lease expires, and a new leader gives each lease its full TTL
// again. Users that must be safe meanwhile (locks, claims) check [Lease.Remaining], which
// counts from when the last answered renewal was sent.
//
// etcd's grpc-proxy renews leases by itself, and its answers may be older than the renewals that they
// answer. Behind one the session asks etcd for the lease's remaining time, and counts from there.
package lease
