package reflector

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// identityTimeout bounds reading or writing etcd's identity. It is short: when one member
// hangs, another may answer.
const identityTimeout = 3 * time.Second

// clusterIdentity distinguishes an etcd from another one at the same address, after a
// wipe, a restore from a backup, or a replacement.
type clusterIdentity struct {
	Header
	epoch string
}

// startedOverReason returns why what was read under an earlier identity is invalid under
// this one; empty: it is still valid. The cluster and term of an identity that was saved
// by an earlier process are unknown, that is 0.
func (id clusterIdentity) startedOverReason(before clusterIdentity) string {
	switch {
	case id.epoch != before.epoch && before.epoch != "":
		return "the epoch has changed"
	case id.Cluster != before.Cluster && before.Cluster != 0:
		return "the cluster id has changed"
	case id.Revision < before.Revision:
		return "the revision went back"
	case id.Term < before.Term:
		return "the term went back"
	}
	return ""
}

// verify returns an error unless an answer comes from the etcd with this identity.
func (id clusterIdentity) verify(at Header) error {
	if at.Cluster != id.Cluster || at.Revision < id.Revision {
		return errors.New("etcd was replaced while it was listed")
	}
	return nil
}

// ensureEpoch returns etcd's identity. With Options.MakeEpoch it writes a new epoch where
// there is none, or where etcd started over and still has the old one, as after a restore
// from a backup. The first writer wins; the others read its epoch.
func (r *Reflector) ensureEpoch(ctx context.Context) (clusterIdentity, error) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	now, modified, err := r.readIdentity(ctx)
	if err != nil {
		return clusterIdentity{}, err
	}
	stale := now.epoch == r.identity.epoch && now.startedOverReason(r.identity) != ""
	if !r.options.MakeEpoch || modified != 0 && !stale {
		return now, nil
	}
	key := r.options.Epoch
	made, err := r.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", modified)).
		Then(clientv3.OpPut(key, rand.Text())).
		Commit()
	if err != nil {
		return clusterIdentity{}, fmt.Errorf("write epoch: %w", err)
	}
	r.log.Info("etcd has a new epoch", "made_here", made.Succeeded)
	now, _, err = r.readIdentity(ctx)
	return now, err
}

// readIdentity returns etcd's identity and the revision of its epoch key; 0: there is none.
func (r *Reflector) readIdentity(ctx context.Context) (now clusterIdentity, modified int64, err error) {
	got, err := r.kv.Get(ctx, r.options.Epoch)
	if err != nil {
		return clusterIdentity{}, 0, fmt.Errorf("read epoch: %w", err)
	}
	now.Header = headerOf(got.Header)
	for _, kv := range got.Kvs {
		now.epoch, modified = string(kv.Value), kv.ModRevision
	}
	return now, modified, nil
}
