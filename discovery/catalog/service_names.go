package catalog

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/retry"
)

// Bounds of reading names.
const (
	namesTTL     = time.Second      // for which names are reused
	namesTimeout = 10 * time.Second // of reading all names
	namesPage    = 1000             // keys of one read
)

// names are the names of all services, or of all nodes, in etcd, as they were last read.
// Concurrent callers share one reading.
type names struct {
	read func(context.Context) ([]string, error)

	mu       sync.Mutex
	last     namesReading
	inFlight *namesReading // nil: none
}

// namesReading is one reading of names.
type namesReading struct {
	done    chan struct{} // closed when the fields below are set
	started time.Time
	all     []string // sorted
	err     error
	dropped bool // the caller that read gave up, so that the error says nothing of etcd
}

// list returns the names of a moment ago. If ctx ends first, it returns the cause.
func (n *names) list(ctx context.Context) ([]string, error) {
	for {
		r, mine := n.join()
		if mine {
			r.all, r.err = n.read(ctx)
			r.dropped = ctx.Err() != nil
			n.finish(r)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if mine || !r.dropped {
			return r.all, r.err
		}
	}
}

// join returns the reading to wait for, and whether the caller is to read.
func (n *names) join() (r *namesReading, mine bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.inFlight != nil:
		return n.inFlight, false
	case n.last.done != nil && time.Since(n.last.started) < namesTTL:
		return &n.last, false
	}
	n.inFlight = &namesReading{done: make(chan struct{}), started: time.Now()}
	return n.inFlight, true
}

// finish ends a reading. Only a successful one is reused.
func (n *names) finish(r *namesReading) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inFlight = nil
	if r.err == nil {
		n.last = *r
	}
	close(r.done)
}

// ServiceNames returns the folded names of all services that have anything in etcd, sorted; with
// WatchListed, of the listed services. Unless the view has them all, it reads them from
// etcd, in pages of keys without their values, skipping from name to name. It fails with an
// ErrUnavailable if it cannot read all of them; the error says how many it has read.
func (c *Catalog) ServiceNames(ctx context.Context) ([]string, error) {
	if c.isWhole() || c.options.Watch == WatchListed {
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
	err := c.Health().Err
	var all []string
	if err == nil {
		all, err = c.serviceNames.list(ctx)
	}
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrUnavailable, "the names of services cannot be read: %v", err)
	}
	return all, nil
}

// readNames returns the names below a prefix that valid accepts.
func (c *Catalog) readNames(ctx context.Context, prefix string, valid func(string) error) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, namesTimeout, fmt.Errorf("etcd has not answered within %v", namesTimeout))
	defer cancel()
	var all []string
	for child, err := range etcd.Children(ctx, c.client, prefix, namesPage) {
		if err != nil {
			return nil, fmt.Errorf("the list is incomplete, with %d names: %w", len(all), retry.CauseOf(ctx, err))
		}
		if name, below := strings.CutSuffix(child, "/"); below && valid(name) == nil {
			all = append(all, name)
		}
	}
	return all, nil
}
