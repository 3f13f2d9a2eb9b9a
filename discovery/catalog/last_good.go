package catalog

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"disc/discovery/retry"
	"disc/discovery/view"
)

// LastGoodStore keeps the last good view over restarts.
type LastGoodStore interface {
	// Load returns what was saved, and when it last was saved or touched. It is an
	// [fs.ErrNotExist] when nothing was.
	Load() (content []byte, confirmed time.Time, err error)
	// Save replaces what was saved by what write writes, as a whole, or leaves it as it
	// was.
	Save(write func(io.Writer) error) error
	// Touch notes that what was saved still holds.
	Touch() error
}

// saveInterval is how often the view is saved at most.
const saveInterval = 5 * time.Second

// restore begins with the last good view, which is stale until etcd confirms it.
func (c *Catalog) restore() {
	content, confirmed, err := c.options.LastGood.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var v lastGoodView
	if err == nil {
		v, err = readLastGood(content, c.keys)
	}
	if err != nil {
		c.metrics.lastGood.WithLabelValues("load").Inc()
		c.log.Warn("last good view cannot be used; there is none until etcd answers", "error", err)
		return
	}
	if now := time.Now(); confirmed.After(now) {
		confirmed = now // the wall clock went back meanwhile; an age is never negative
	}
	c.subscriptions.whole.Store(!v.Partial)
	c.lastGoodExpired = time.Since(confirmed) > c.options.Remember
	next, _, _ := view.EmptySnapshot().WithEpoch(v.Epoch).Apply(v.Revision, v.changes)
	c.state.Store(&state{snapshot: next, confirmed: confirmed, restored: true})
	c.log.Info("answering from the last good view until etcd confirms it", "revision", v.Revision, "confirmed", confirmed.UTC().Format(time.RFC3339))
}

// saveLoop saves the view after changes, until ctx ends; then once more. A view
// that takes long to save is saved less often, and so is one that cannot be saved.
func (c *Catalog) saveLoop(ctx context.Context) {
	var saved *view.Snapshot
	var failures retry.Backoff
	wait := saveInterval
	for ctx.Err() == nil {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		began := time.Now()
		next, err := c.saveIfChanged(saved)
		if err == nil {
			saved, wait = next, max(saveInterval, 50*time.Since(began))
			failures.Reset()
			continue
		}
		c.metrics.lastGood.WithLabelValues("save").Inc()
		if failures.Failed() {
			c.log.Warn("last good view cannot be saved; a restart without etcd would have an older one, or none", "error", err)
		}
	}
}

// saveIfChanged saves the view unless it is the one that is saved, or not confirmed. It
// returns the snapshot that is saved.
func (c *Catalog) saveIfChanged(saved *view.Snapshot) (*view.Snapshot, error) {
	s := c.state.Load()
	if s == nil || s.restored || time.Since(s.confirmed) > c.options.StaleAfter {
		return saved, nil
	}
	if saved != nil && s.snapshot.Cursor() == saved.Cursor() {
		return saved, c.options.LastGood.Touch()
	}
	return s.snapshot, c.save(s.snapshot)
}

func (c *Catalog) save(s *view.Snapshot) error {
	head := lastGoodHeader{Prefix: c.keys.Prefix(), Revision: s.Revision(), Epoch: s.Epoch(), Partial: !c.subscriptions.whole.Load()}
	return c.options.LastGood.Save(func(w io.Writer) error { return writeLastGood(w, head, c.keys, s) })
}
