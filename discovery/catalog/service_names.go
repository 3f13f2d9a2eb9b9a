package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// Bounds of reading names.
const (
	namesTTL     = time.Second      // for which names are reused
	namesTimeout = 10 * time.Second // of reading all names
	namesPage    = 1000             // keys of one read
)

// names are the names of all services, or of all nodes, in etcd, as they were last read.
// Concurrent callers share one reading, which goes on when they give up.
type names struct {
	read func(context.Context) ([]string, error)

	mu   sync.Mutex
	last *namesReading // in flight, or complete; nil: none yet
}

// namesReading is one reading of names.
type namesReading struct {
	started time.Time
	done    chan struct{} // closed when the fields below are set
	all     []string      // sorted
	err     error
}

// list returns the names of a moment ago, or why they could not be read then. If ctx ends first,
// it returns the cause.
func (n *names) list(ctx context.Context) (*namesReading, error) {
	r := n.reading(ctx)
	select {
	case <-r.done:
		return r, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// reading returns the reading in flight, or the last one if that began a moment ago, or a new
// one.
func (n *names) reading(ctx context.Context) *namesReading {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last != nil {
		select {
		case <-n.last.done:
			if time.Since(n.last.started) < namesTTL {
				return n.last
			}
		default:
			return n.last
		}
	}
	r := &namesReading{started: time.Now(), done: make(chan struct{})}
	n.last = r
	go func() {
		defer close(r.done)
		r.all, r.err = n.read(context.WithoutCancel(ctx))
	}()
	return r
}

// ServiceNames returns the folded names of all services that have anything in etcd, sorted; with
// WatchListed, of the listed services, and of those that cannot be read. Unless the view has them
// all, it reads them from etcd, in pages of keys without their values, skipping from name to name.
// It fails with an ErrUnavailable if it cannot read all of them; the error says how many it has
// read.
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
		all = append(all, c.subscriptions.unread(view.Snapshot)...)
		slices.Sort(all)
		return all, nil
	}
	err := c.Health().Err
	var names *namesReading
	if err == nil {
		names, err = c.serviceNames.list(ctx)
	}
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrUnavailable, "the names of services cannot be read: %s", retry.PlainText(err))
	}
	return names.all, nil
}

// NamesMissing returns why ServiceNames may lack services that are in etcd; nil: it has all.
func (c *Catalog) NamesMissing() error {
	if c.options.Watch == WatchListed {
		return errors.New("only the services that catalog.watch lists are watched")
	}
	return nil
}

// unread returns the names of the services that are always watched, and of which a snapshot has
// nothing as they are not watched yet, or not any more.
func (subs *subscriptions) unread(s *view.Snapshot) []string {
	subs.mu.Lock()
	defer subs.mu.Unlock()
	var names []string
	if all, ok := subs.byScope[everything]; ok && all.watched {
		return nil
	}
	for scope, sub := range subs.byScope {
		if sub.pinned && !sub.watched && scope.Service != "" && !s.Has(scope) {
			names = append(names, scope.Service)
		}
	}
	return names
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
