package reflector

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// identityTimeout bounds the few small calls that ask etcd who it is. It is short: where one
// member hangs, another may answer.
const identityTimeout = 3 * time.Second

// clusterIdentity is what tells one etcd from another that answers at the same address: one that
// was wiped, restored from a backup, or replaced.
type clusterIdentity struct {
	Header
	epoch string
}

// startedOverReason returns why what is known of the life before does not hold in this one;
// empty if it does. Of a life before this process, cluster and term are not known.
func (l clusterIdentity) startedOverReason(before clusterIdentity) string {
	switch {
	case l.epoch != before.epoch && before.epoch != "":
		return "the epoch is another"
	case l.Cluster != before.Cluster && before.Cluster != 0:
		return "the cluster id is another"
	case l.Revision < before.Revision:
		return "the revision went back"
	case l.Term < before.Term:
		return "the term went back"
	}
	return ""
}

// verify returns an error unless an answer comes from this life.
func (l clusterIdentity) verify(at Header) error {
	if at.Cluster != l.Cluster || at.Revision < l.Revision {
		return errors.New("etcd was replaced by another while it was listed")
	}
	return nil
}

// ensureEpoch reads in which life etcd is. Where there is no epoch, or an etcd that started
// over still has the old one, as from a backup, and the follower may write, it makes
// a new one. Whoever is first wins; the others read.
func (f *Reflector) ensureEpoch(ctx context.Context) (clusterIdentity, error) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	now, modified, err := f.readIdentity(ctx)
	if err != nil {
		return clusterIdentity{}, err
	}
	stale := now.epoch == f.identity.epoch && now.startedOverReason(f.identity) != ""
	if !f.options.MakeEpoch || modified != 0 && !stale {
		return now, nil
	}
	key := f.options.Epoch
	made, err := f.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", modified)).
		Then(clientv3.OpPut(key, rand.Text())).
		Commit()
	if err != nil {
		return clusterIdentity{}, fmt.Errorf("write epoch: %w", err)
	}
	f.log.Info("a new epoch of etcd begins", "made_here", made.Succeeded)
	now, _, err = f.readIdentity(ctx)
	return now, err
}

// readIdentity returns the present life and the revision of its epoch; 0: it has none.
func (f *Reflector) readIdentity(ctx context.Context) (now clusterIdentity, modified int64, err error) {
	got, err := f.kv.Get(ctx, f.options.Epoch)
	if err != nil {
		return clusterIdentity{}, 0, fmt.Errorf("read epoch: %w", err)
	}
	now.Header = headerOf(got.Header)
	for _, kv := range got.Kvs {
		now.epoch, modified = string(kv.Value), kv.ModRevision
	}
	return now, modified, nil
}
