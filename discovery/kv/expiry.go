package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery/reflector"
)

// A key with a TTL lies under a lease. A lease carries the keys of one write and is never
// used for another: the write grants it, and its one transaction attaches the keys. So once
// a later transaction has found such a key and replaced it, no write of a Store attaches
// anything to the lease any more, not even one whose outcome its caller never learned. The
// later write then revokes the lease, unless the lease still has other keys of its write;
// whoever replaces the last of them revokes it.
//
// To renew a lease or use it again instead would save a grant. But then a key that a slow
// writer has just attached could be deleted with it, and a lease keeps the TTL of its grant.
//
// Someone else can attach keys to a lease, too. That is why a Store revokes only leases that
// a Store granted, which the ids tell, and only those that have no key. What remains is the
// moment between that look and the revocation: a key that someone attaches by hand in it, to
// the lease of a key that is just replaced, is deleted. etcd has no revocation with a
// condition.

const (
	// scanTimeout bounds the time for which [Store.DeleteBelow] looks for leases.
	scanTimeout = 2 * time.Second
	// maxReleases is the number of leases that one call releases at once.
	maxReleases = 8
)

// newLeaseID returns a random id that [isOwnLease] recognizes.
func newLeaseID() clientv3.LeaseID {
	random := rand.Uint32() >> 1 // ids are positive
	return clientv3.LeaseID(random)<<32 | clientv3.LeaseID(leaseMark(random))
}

// isOwnLease reports whether a Store granted a lease. It is wrong about one in four billion
// of all others.
func isOwnLease(id clientv3.LeaseID) bool {
	return id > 0 && leaseMark(uint32(id>>32)) == uint32(id)
}

func leaseMark(random uint32) uint32 {
	return crc32.ChecksumIEEE(binary.BigEndian.AppendUint32([]byte("disc kv "), random))
}

// grantLeases grants one lease for each distinct TTL of the operations.
func (s *Store) grantLeases(ctx context.Context, ops []Op) (map[time.Duration]clientv3.LeaseID, error) {
	leases := map[time.Duration]clientv3.LeaseID{0: clientv3.NoLease}
	for _, op := range ops {
		if _, ok := leases[op.TTL]; ok {
			continue
		}
		id, err := s.grantLease(ctx, op.TTL)
		if err != nil {
			s.revoke(ctx, leases)
			return nil, fmt.Errorf("grant a lease of %v: %w", op.TTL, err)
		}
		leases[op.TTL] = id
	}
	return leases, nil
}

// grantLease grants a lease under an id of its own choice.
func (s *Store) grantLease(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
	for {
		id := newLeaseID()
		_, err := clientv3.RetryLeaseClient(s.client).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: int64(id), TTL: int64(math.Ceil(ttl.Seconds()))})
		if err == nil {
			return id, nil
		}
		// Another lease has the id, or this call was repeated after an answer that was lost.
		if !errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseExist) {
			return 0, err
		}
	}
}

// revoke revokes leases that no key uses. If that fails, they expire by themselves.
func (s *Store) revoke(ctx context.Context, leases map[time.Duration]clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout) // the caller may be gone
	defer cancel()
	for _, id := range leases {
		if id != clientv3.NoLease {
			_, _ = s.client.Revoke(ctx, id)
		}
	}
}

// addOwnLeases adds the leases of keys, of which some may be nil, to a set, if a Store
// granted them.
func addOwnLeases(leases map[clientv3.LeaseID]bool, kvs []*mvccpb.KeyValue) {
	for _, kv := range kvs {
		if id := clientv3.LeaseID(kv.GetLease()); isOwnLease(id) {
			leases[id] = true
		}
	}
}

// release revokes those of the leases that have no key any more, whose keys were just
// replaced or deleted. It goes on when the caller of the write is gone. A lease that it cannot
// revoke within callTimeout ends with its TTL.
func (s *Store) release(ctx context.Context, leases map[clientv3.LeaseID]bool) {
	if len(leases) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(maxReleases)
	for id := range leases {
		group.Go(func() error {
			left, err := s.client.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
			if err == nil && left.TTL > 0 && len(left.Keys) == 0 {
				_, err = s.client.Revoke(ctx, id)
			}
			return err
		})
	}
	_ = group.Wait() // what is left expires by itself
}

// leasesBelow returns the leases of the keys in a range that a Store granted, or those of
// them that it finds within scanTimeout.
func (s *Store) leasesBelow(ctx context.Context, rng reflector.Range) map[clientv3.LeaseID]bool {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	leases := map[clientv3.LeaseID]bool{}
	_ = scan(ctx, s.client, rng, func(page []*mvccpb.KeyValue) { addOwnLeases(leases, page) })
	return leases
}
