// Package claim grants slots of instances to an agent's callers, such as the GPUs of a
// service "gpu". Claims are grants of a [lock.Manager], which lose and expire them as it
// does locks; see package lock.
//
//	claims := claim.New(client, keys, locks, catalog, claim.Options{Node: "host-1"})
//	go claims.Run(ctx)
//	grant, err := claims.Claim(ctx, "gpu", claim.Request{Wait: time.Minute, TTL: 30 * time.Second})
//	endpoint, slot := grant.Endpoint(), grant.Slot()
//	grant, err = claims.Renew(grant.ID())      // within the TTL
//	done, err := claims.Release(ctx, grant.ID())
//
// Which slots are free is known from a watch of the services that are claimed from, so that
// concurrent claimants seldom pick the same slot. Each claimant draws two instances at
// random and prefers the one with more free slots. It tries up to eight instances in one
// transaction, which also checks that each is still the incarnation that was seen: an
// instance that was removed and registered again is another one, even under the same id.
//
// A claim is lost when its instance is gone, as well as for every reason for which a lock
// is lost.
package claim
