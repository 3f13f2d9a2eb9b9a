// Package life tells one life of an etcd from the next. An etcd starts over when it is wiped,
// restored from a backup or replaced: leases, keys and revisions that an agent knows are then gone
// or back, and whoever relies on them must be told.
//
//	l := life.New(client, keys, session, life.Options{})
//	go l.Run(ctx)
//	guard, err := l.Guard()                                  // nothing is granted while etcd is not known to go on
//	r, err := client.Txn(ctx).If(guard.Compares()...).Then(grant).Commit()
//	err = guard.Check(r.Header)                              // the answer is of the same life
//
// # How a new life is known
//
// A [Life] remembers the highest revision that any answer has shown. Etcd has started over when
// the cluster or the epoch is another one, when a linearizable read that was asked later has a lower
// revision or term, when the agent's own record is there in an older state, or when the revision
// jumps by [RevisionJump], as after a restore with --bump-revision.
//
// # What happens then
//
// Whoever finds a new life writes a new epoch, a higher base of the fences and the key
// "quarantine", in one transaction. The quarantine's key lies on a lease of [Life.Quarantine]. While
// it exists no agent grants anything, since every transaction that grants compares its absence, the
// epoch and the base. No promise of an earlier life lasts longer than the quarantine.
//
// # What is not known
//
// An agent without any memory of an etcd cannot tell that it was restored. Until another agent has
// found it, such an agent may grant what a holder still relies on.
package life
