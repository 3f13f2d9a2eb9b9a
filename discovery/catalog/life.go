package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// lifeTime bounds the few small calls that ask etcd who it is. It is short: where one
// member hangs, another may answer.
const lifeTime = 3 * time.Second

// life is what tells one etcd from another that answers at the same address: one that
// was wiped, restored from a backup, or replaced.
type life struct {
	header
	epoch string
}

// startedOver returns why what is known of the life before does not hold in this one;
// empty if it does.
func (l life) startedOver(before life) string {
	switch {
	case l.epoch != before.epoch && before.epoch != "":
		return "the epoch is another"
	case l.cluster != before.cluster:
		return "the cluster id is another"
	case l.revision < before.revision:
		return "the revision went back"
	case l.term < before.term:
		return "the term went back"
	}
	return ""
}

// same returns an error unless an answer comes from this life.
func (l life) same(at header) error {
	if at.cluster != l.cluster || at.revision < l.revision {
		return errors.New("etcd was replaced by another while it was listed")
	}
	return nil
}

// ask reads in which life etcd is. Where there is no epoch, or an etcd that started
// over still has the old one, as from a backup, and the catalog may write, it makes
// a new one. Whoever is first wins; the others read.
func (c *Catalog) ask(ctx context.Context, before life) (life, error) {
	ctx, cancel := context.WithTimeout(ctx, lifeTime)
	defer cancel()
	now, modified, err := c.readLife(ctx)
	if err != nil {
		return life{}, err
	}
	stale := before.revision != 0 && now.epoch == before.epoch && now.startedOver(before) != ""
	if !c.options.MakeEpoch || modified != 0 && !stale {
		return now, nil
	}
	key := c.keys.Epoch()
	made, err := c.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", modified)).
		Then(clientv3.OpPut(key, rand.Text())).
		Commit()
	if err != nil {
		return life{}, fmt.Errorf("write epoch: %w", err)
	}
	c.log.Info("a new epoch of etcd begins", "made_here", made.Succeeded)
	now, _, err = c.readLife(ctx)
	return now, err
}

// readLife returns the present life and the revision of its epoch; 0: it has none.
func (c *Catalog) readLife(ctx context.Context) (now life, modified int64, err error) {
	got, err := c.client.Get(ctx, c.keys.Epoch())
	if err != nil {
		return life{}, 0, fmt.Errorf("read epoch: %w", err)
	}
	now.header = headerOf(got.Header)
	for _, kv := range got.Kvs {
		now.epoch, modified = string(kv.Value), kv.ModRevision
	}
	return now, modified, nil
}
