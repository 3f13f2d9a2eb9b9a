package catalog

import (
	"context"
	"strings"
	"sync"
	"time"

	"disc/discovery"
	"disc/discovery/etcd"
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

// ServiceNames returns the folded names of all services that have anything in etcd, sorted; with
// WatchListed, of the listed services. Unless the view has them all, it reads them from
// etcd, skipping from name to name, and fails with an ErrUnavailable if it cannot.
func (c *Catalog) ServiceNames(ctx context.Context) ([]string, error) {
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
	var all []string
	for child, err := range etcd.Children(ctx, c.client, c.keys.Services(), 1) {
		if err != nil {
			return nil, err
		}
		if name, below := strings.CutSuffix(child, "/"); below && discovery.ValidateService(name) == nil {
			all = append(all, name)
		}
	}
	return all, nil
}
