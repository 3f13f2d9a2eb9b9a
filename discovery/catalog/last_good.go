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

// LastGoodStore saves the last good view for the next start.
type LastGoodStore interface {
	// Load returns the saved content, and the time of the last Save or Touch. It returns
	// an [fs.ErrNotExist] when nothing was saved.
	Load() (content []byte, confirmed time.Time, err error)
	// Save replaces the saved content by what write writes. On error the saved content is
	// unchanged.
	Save(write func(io.Writer) error) error
	// Touch records that the saved content is still current.
	Touch() error
}

// saveInterval is the least time between two saves of the view.
const saveInterval = 5 * time.Second

// restore publishes the last good view. It is stale until etcd confirms it.
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
		c.log.Warn("last good view cannot be used; there is no view until etcd answers", "error", err)
		return
	}
	if now := time.Now(); confirmed.After(now) {
		confirmed = now // the wall clock was set back; an age is never negative
	}
	c.lastGoodExpired = time.Since(confirmed) > c.options.Remember
	next, _, _ := view.EmptySnapshot().WithEpoch(v.Epoch).Apply(v.Revision, v.changes)
	c.state.Store(&state{snapshot: next, whole: !v.Partial, confirmed: confirmed, restored: true, first: v.Revision})
	c.recordRestored(c.state.Load())
	c.log.Info("answering from the last good view until etcd confirms it", "revision", v.Revision, "confirmed", confirmed.UTC().Format(time.RFC3339))
}

// saveLoop saves the view after changes, until ctx ends, then once more. The longer a save
// takes, the rarer they are, down to one fiftieth of the time.
func (c *Catalog) saveLoop(ctx context.Context) {
	var saved *state
	var failures retry.Backoff
	wait := saveInterval
	for ctx.Err() == nil {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		start := time.Now()
		next, err := c.saveIfChanged(saved)
		if err == nil {
			saved, wait = next, max(saveInterval, 50*time.Since(start))
			failures.Reset()
			continue
		}
		c.metrics.lastGood.WithLabelValues("save").Inc()
		if failures.Failed() {
			c.log.Warn("last good view cannot be saved; a restart without etcd would have an older one, or none", "error", err)
		}
	}
}

// saveIfChanged saves the view, unless it is saved already or is not confirmed. It returns
// the saved one.
func (c *Catalog) saveIfChanged(saved *state) (*state, error) {
	s := c.state.Load()
	if s == nil || s.restored || time.Since(s.confirmed) > c.options.StaleAfter {
		return saved, nil
	}
	if saved != nil && s.hasContentOf(saved) {
		return saved, c.options.LastGood.Touch()
	}
	return s, c.save(s)
}

// hasContentOf reports whether a view has the content of another: both are of one revision, and
// no scope was added or dropped between them.
func (s *state) hasContentOf(other *state) bool {
	if s.whole != other.whole || s.snapshot.Cursor() != other.snapshot.Cursor() {
		return false
	}
	services, instances, nodes := s.snapshot.Len()
	otherServices, otherInstances, otherNodes := other.snapshot.Len()
	return services == otherServices && instances == otherInstances && nodes == otherNodes
}

func (c *Catalog) save(s *state) error {
	head := lastGoodHeader{Prefix: c.keys.Prefix(), Revision: s.snapshot.Revision(), Epoch: s.snapshot.Epoch(), Partial: !s.whole}
	return c.options.LastGood.Save(func(w io.Writer) error { return writeLastGood(w, head, c.keys, s.snapshot) })
}
