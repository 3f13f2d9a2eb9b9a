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

// fetchMost is up to how many changed keys are read one by one after a gap; beyond,
// everything is listed.
const fetchMost = 500

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
	epoch, err := c.epoch(ctx)
	if err != nil {
		return err
	}
	before, again := discovery.EmptySnapshot(), false
	if s := c.state.Load(); s != nil {
		before, again = s.snapshot, true
	}
	another := again && before.Epoch() != epoch
	if another {
		c.log.Warn("etcd has begun another life: it was wiped, restored or replaced", "epoch", epoch, "before", before.Epoch())
	}
	changes, at, err := c.difference(ctx, before, again && !another)
	if err != nil {
		return err
	}
	c.cluster, c.behind = at.cluster, time.Time{}
	c.apply(before.WithEpoch(epoch), at.revision, changes, started)
	c.log.Info("catalog is in sync with etcd", "revision", at.revision, "changes", len(changes), "took", time.Since(started).Round(time.Millisecond))
	if again {
		c.mu.Lock()
		c.resyncs++
		c.mu.Unlock()
		c.metrics.resyncs.Inc()
	}
	return nil
}

// difference returns what has changed between a snapshot and what etcd holds now, in
// the order of revisions. With trust, a key whose revision is the same is the same,
// and only the keys are listed unless much has changed.
func (c *Catalog) difference(ctx context.Context, before *discovery.Snapshot, trust bool) ([]discovery.Change, header, error) {
	known := maps.Collect(before.Keys())
	maps.Copy(known, c.broken)
	var changes []discovery.Change
	var at header
	var err error
	if trust {
		changes, at, err = c.listChanged(ctx, known)
	} else {
		changes, at, err = c.listAll(ctx, known)
	}
	if err != nil {
		return nil, header{}, err
	}
	for key := range known { // what is left was not listed
		changes = append(changes, discovery.Change{Key: key, Modified: at.revision})
	}
	slices.SortFunc(changes, func(a, b discovery.Change) int {
		return cmp.Or(cmp.Compare(a.Modified, b.Modified), compareKeys(a.Key, b.Key))
	})
	return changes, at, nil
}

// compareKeys orders keys: nodes first, so that a death is told by its node's record.
func compareKeys(a, b discovery.Key) int {
	return cmp.Or(-cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Node, b.Node))
}

// listAll lists everything, and takes what is listed out of known.
func (c *Catalog) listAll(ctx context.Context, known map[discovery.Key]int64) ([]discovery.Change, header, error) {
	var changes []discovery.Change
	from, to := c.keys.CatalogRange()
	at, err := list(ctx, c.client, from, to, func(kv *mvccpb.KeyValue) {
		key := c.keys.Parse(string(kv.Key))
		delete(known, key)
		changes = append(changes, change(key, kv))
	})
	return changes, at, err
}

// listChanged lists the keys alone, takes those that are there out of known, and
// fetches the values of those whose revision is another than known.
func (c *Catalog) listChanged(ctx context.Context, known map[discovery.Key]int64) ([]discovery.Change, header, error) {
	var changed []string
	from, to := c.keys.CatalogRange()
	at, err := list(ctx, c.client, from, to, func(kv *mvccpb.KeyValue) {
		key := c.keys.Parse(string(kv.Key))
		if known[key] != kv.ModRevision && key.Kind != discovery.KeyOther {
			changed = append(changed, string(kv.Key))
		}
		delete(known, key)
	}, clientv3.WithKeysOnly())
	if err != nil || len(changed) == 0 {
		return nil, at, err
	}
	if len(changed) > fetchMost {
		return c.listAt(ctx, at, changed)
	}
	changes, err := c.fetch(ctx, at.revision, changed)
	return changes, at, err
}

// listAt lists everything at a revision and keeps what is named.
func (c *Catalog) listAt(ctx context.Context, at header, names []string) ([]discovery.Change, header, error) {
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	var changes []discovery.Change
	from, to := c.keys.CatalogRange()
	_, err := list(ctx, c.client, from, to, func(kv *mvccpb.KeyValue) {
		if wanted[string(kv.Key)] {
			changes = append(changes, change(c.keys.Parse(string(kv.Key)), kv))
		}
	}, clientv3.WithRev(at.revision))
	return changes, at, err
}

// fetch reads some keys at a revision.
func (c *Catalog) fetch(ctx context.Context, revision int64, names []string) ([]discovery.Change, error) {
	var changes []discovery.Change
	for batch := range slices.Chunk(names, 100) {
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
				changes = append(changes, change(c.keys.Parse(string(kv.Key)), kv))
			}
		}
	}
	return changes, nil
}

// apply makes a new view of the changes and publishes it.
func (c *Catalog) apply(before *discovery.Snapshot, revision int64, changes []discovery.Change, confirmed time.Time) {
	next, events, broken := before.Apply(revision, changes)
	c.noteBroken(changes, broken)
	next = c.forget(next, changes)
	c.publish(next, confirmed, changes, events)
	c.metrics.size(next)
}

// noteBroken keeps track of the records that cannot be read, and logs each once.
func (c *Catalog) noteBroken(changes []discovery.Change, broken []discovery.BrokenRecord) {
	for _, change := range changes {
		delete(c.broken, change.Key)
	}
	for _, b := range broken {
		c.broken[b.Key] = b.Modified
		c.log.Warn("record cannot be read; leaving it out", "error", b)
	}
	c.metrics.setBroken(len(c.broken))
}

// forget drops the services that have been empty for long.
func (c *Catalog) forget(s *discovery.Snapshot, changes []discovery.Change) *discovery.Snapshot {
	for _, change := range changes {
		if service, ok := s.Service(change.Key.Service); ok && service.Empty() {
			c.emptied[change.Key.Service] = time.Now()
		} else {
			delete(c.emptied, change.Key.Service)
		}
	}
	var old []string
	for name, since := range c.emptied {
		if time.Since(since) > c.options.Remember {
			old = append(old, name)
			delete(c.emptied, name)
		}
	}
	if len(old) == 0 {
		return s
	}
	return s.Forget(old...)
}
