package catalog

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// namesTTL is the time for which the names of all services are reused, so that many
// concurrent calls cost etcd no more than one.
const namesTTL = time.Second

// nameCache holds the names of all services in etcd, as they were last read.
type nameCache struct {
	mu   sync.Mutex
	all  []string
	read time.Time
}

// Names returns the folded names of all services that have anything in etcd, sorted; with
// WatchListed, of the listed services. Unless the view has them all, it reads them from
// etcd, skipping from name to name, and fails with an ErrUnavailable if it cannot.
func (c *Catalog) Names(ctx context.Context) ([]string, error) {
	if c.subscriptions.whole.Load() || c.options.Watch == WatchListed {
		view, err := c.View()
		if err != nil {
			return nil, err
		}
		var all []string
		for service := range view.Snapshot.Services() {
			if !service.Empty() {
				all = append(all, discovery.FoldName(service.Name))
			}
		}
		return all, nil
	}
	c.names.mu.Lock()
	defer c.names.mu.Unlock()
	if time.Since(c.names.read) < namesTTL {
		return c.names.all, nil
	}
	err := c.Health().Err
	var all []string
	if err == nil {
		all, err = c.readNames(ctx)
	}
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrUnavailable, "the names of services cannot be read: %v", err)
	}
	c.names.all, c.names.read = all, time.Now()
	return all, nil
}

func (c *Catalog) readNames(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	from, end := c.keys.Services(), clientv3.GetPrefixRangeEnd(c.keys.Services())
	var all []string
	for revision := int64(0); ; {
		got, err := c.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithKeysOnly(), clientv3.WithRev(revision))
		if err != nil {
			return nil, err
		}
		if len(got.Kvs) == 0 {
			return all, nil
		}
		revision = cmp.Or(revision, got.Header.Revision)
		name, _, _ := strings.Cut(strings.TrimPrefix(string(got.Kvs[0].Key), c.keys.Services()), "/")
		if discovery.ValidateService(name) == nil {
			all = append(all, name)
		}
		from = c.keys.Services() + name + "0" // '0' follows '/'
	}
}
