package catalog

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"disc/discovery"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bounds of reading what changed after a gap.
const (
	fetchMost  = 500 // keys that are read one by one; beyond, everything is listed
	fetchBatch = 100 // keys of one transaction; etcd takes at most 128
)

// follow brings the view up to date and then follows the watch until that ends, with
// the reason. It calls steady when the watch has proved to work.
func (c *Catalog) follow(ctx context.Context, steady func()) error {
	if err := c.sync(ctx); err != nil {
		return err
	}
	return c.watch(ctx, steady)
}

// sync makes the view equal to what etcd holds at one revision.
func (c *Catalog) sync(ctx context.Context) error {
	started := time.Now()
	before := c.state.Load()
	if before != nil {
		c.life.revision = before.snapshot.Revision()
	}
	now, err := c.ask(ctx, c.life)
	if err != nil {
		return err
	}
	var changes int
	switch why := now.startedOver(c.life); {
	case before == nil:
		changes, err = c.rebuild(ctx, discovery.EmptySnapshot(), now, started, false)
	case before.kept:
		// What is missing from a view of the same life has vanished; how much that is
		// the guard judges.
		changes, err = c.rebuild(ctx, before.snapshot, now, started, now.epoch != before.snapshot.Epoch() || now.revision < c.life.revision)
	case why != "":
		c.log.Warn("etcd has started over: it was wiped, restored or replaced; listing everything",
			"why", why, "epoch", now.epoch, "epoch_before", before.snapshot.Epoch())
		changes, err = c.rebuild(ctx, before.snapshot, now, started, true)
	default:
		changes, err = c.catchUp(ctx, before.snapshot, now, started)
	}
	if err != nil {
		return err
	}
	c.life, c.behind, c.outdated = now, time.Time{}, false
	if before != nil {
		c.countResync()
	}
	c.log.Info("catalog is in sync with etcd", "revision", c.state.Load().snapshot.Revision(),
		"changes", changes, "took", time.Since(started).Round(time.Millisecond))
	return nil
}

func (c *Catalog) countResync() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resyncs++
	c.metrics.resyncs.Inc()
}

// rebuild makes the view anew, since nothing that is known can be trusted. Services
// that are not there any more stay known, and instances are kept by the guard: as
// suspects when etcd started over. It returns how many keys it read.
func (c *Catalog) rebuild(ctx context.Context, before *discovery.Snapshot, now life, started time.Time, over bool) (int, error) {
	b := builder{keys: c.keys, snapshot: discovery.EmptySnapshot().WithEpoch(now.epoch)}
	from, to := c.keys.CatalogRange()
	at, err := list(ctx, c.client, from, to, b.add)
	if err = cmp.Or(err, now.same(at)); err != nil {
		return 0, err
	}
	c.ailing.replace(b.broken)
	next := b.finish(at.revision).KeepKnown(before)
	next = c.keep(next, before, over)
	c.departed.noteAll(next, started)
	c.publishAnew(next, started)
	c.judge()
	return b.size, nil
}

// catchUp applies what has changed since a snapshot of the same life: a key whose
// revision is the same is the same. It returns how many keys have changed.
func (c *Catalog) catchUp(ctx context.Context, before *discovery.Snapshot, now life, started time.Time) (int, error) {
	known := maps.Collect(before.Keys())
	maps.Copy(known, c.ailing.revisions)
	changed, at, err := c.listChanged(ctx, known)
	if err = cmp.Or(err, now.same(at)); err != nil {
		return 0, err
	}
	changes, err := c.readChanged(ctx, at.revision, changed)
	if err != nil {
		return 0, err
	}
	for key := range known { // what is left was not listed
		changes = append(changes, discovery.Change{Key: key, Modified: at.revision})
	}
	slices.SortFunc(changes, func(a, b discovery.Change) int {
		return cmp.Or(cmp.Compare(a.Modified, b.Modified), compareKeys(a.Key, b.Key))
	})
	c.apply(before.WithEpoch(now.epoch), at.revision, changes, started)
	return len(changes), nil
}

// compareKeys orders keys: nodes first, so that a death is told by its node's record.
func compareKeys(a, b discovery.Key) int {
	return cmp.Or(-cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Node, b.Node))
}

// listChanged lists the keys without their values, takes those that are there out of
// known, and returns those whose revision is another than known.
func (c *Catalog) listChanged(ctx context.Context, known map[discovery.Key]int64) ([]string, header, error) {
	var changed []string
	from, to := c.keys.CatalogRange()
	at, err := list(ctx, c.client, from, to, func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			key := parse(c.keys, kv.Key)
			if known[key] != kv.ModRevision {
				changed = append(changed, string(kv.Key))
			}
			delete(known, key)
		}
	}, clientv3.WithKeysOnly())
	return changed, at, err
}

// readChanged reads the named keys at a revision: one by one or, if they are many, by
// listing everything.
func (c *Catalog) readChanged(ctx context.Context, revision int64, names []string) ([]discovery.Change, error) {
	if len(names) <= fetchMost {
		return c.fetch(ctx, revision, names)
	}
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	var changes []discovery.Change
	from, to := c.keys.CatalogRange()
	_, err := list(ctx, c.client, from, to, func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			if wanted[string(kv.Key)] {
				changes = append(changes, change(parse(c.keys, kv.Key), kv))
			}
		}
	}, clientv3.WithRev(revision))
	return changes, err
}

// fetch reads some keys at a revision.
func (c *Catalog) fetch(ctx context.Context, revision int64, names []string) ([]discovery.Change, error) {
	var changes []discovery.Change
	for batch := range slices.Chunk(names, fetchBatch) {
		ops := make([]clientv3.Op, len(batch))
		for n, name := range batch {
			ops[n] = clientv3.OpGet(name, clientv3.WithRev(revision))
		}
		ctx, cancel := context.WithTimeout(ctx, pageTime)
		txn, err := c.client.Txn(ctx).Then(ops...).Commit()
		cancel()
		if err != nil {
			return nil, fmt.Errorf("read %d changed records: %w", len(batch), err)
		}
		for _, r := range txn.Responses {
			for _, kv := range r.GetResponseRange().GetKvs() {
				changes = append(changes, change(parse(c.keys, kv.Key), kv))
			}
		}
	}
	return changes, nil
}
