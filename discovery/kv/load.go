package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"disc/discovery/reflector"
)

// A range that did not fit is tried again after refusalTTL, then after twice that, and so on up to
// maxRefusalTTL.
const (
	refusalTTL    = time.Minute
	maxRefusalTTL = time.Hour
)

// refusal is why a range is not cached.
type refusal struct {
	why   string        // "it has more than …"
	wait  time.Duration // before it is tried again
	until time.Time     // when that is
}

// ensureCached caches a range, or waits while another caller does. It returns false when the
// range is not to be cached: it did not fit, or too many are.
func (s *Store) ensureCached(ctx context.Context, r reflector.Range) (bool, error) {
	s.activate.Do(func() { close(s.activated) })
	if s.whyRefused(r) != "" {
		return false, nil
	}
	s.mu.Lock()
	done, ok := s.loading[r]
	if !ok {
		done = make(chan struct{})
		s.loading[r] = done
	}
	s.mu.Unlock()
	if ok {
		select {
		case <-done:
			return true, nil // if the other caller failed, this one tries next
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.loading, r)
		close(done)
	}()
	if !s.makeRoom(ctx) {
		return false, nil
	}
	return s.load(ctx, r)
}

// load caches a range and waits a moment until it is complete. It reads no more than fits into
// the cache. It returns false when the range does not fit.
func (s *Store) load(ctx context.Context, r reflector.Range) (bool, error) {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a := admission{s: s, r: r}
	defer a.reset()
	err := s.reflector.AddWithin(limited, r, func() func([]*mvccpb.KeyValue) error {
		a.reset()
		return a.admit
	})
	if err == nil {
		a.reset()
		s.forgetRefusal(r)
		_, _, ok := s.awaitCut(limited, 0, catchUpTimeout, r)
		return ok, nil
	}
	late := limited.Err() != nil && ctx.Err() == nil
	switch reason := s.reflector.Health().Err; {
	case errors.Is(err, errDoesNotFit):
		s.refuse(r, a.why())
		return false, nil
	case late && reason != nil:
		err = reason
	case late && a.read > 0:
		s.refuse(r, fmt.Sprintf("only %d bytes of it could be read within %v", a.read, callTimeout))
		return false, nil
	}
	return false, fmt.Errorf("cache %q: %w", s.displayName(r), err)
}

// admission counts what an attempt to cache a range has read.
type admission struct {
	s     *Store
	r     reflector.Range
	read  int64
	inner bool  // parts of the range are cached already
	left  int64 // for the cache, when the range did not fit
}

var errDoesNotFit = errors.New("it does not fit into the cache")

// reset forgets what was read.
func (a *admission) reset() {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.s.loaded -= a.read
	a.read = 0
	now := a.s.state.Load()
	n, _ := now.position(a.r.From)
	a.inner = n < len(now.ranges) && now.ranges[n].From < a.r.To
}

// admit counts a page. It returns errDoesNotFit if the cache, with all that is being read for
// it, would exceed MaxCachedBytes.
func (a *admission) admit(page []*mvccpb.KeyValue) error {
	now := a.s.state.Load()
	var size int64
	for _, kv := range page {
		if !a.inner || !now.items.Has(Item{Key: string(kv.Key)}) {
			size += itemCost(len(kv.Key), len(kv.Value))
		}
	}
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	if left := a.s.options.MaxCachedBytes - now.size - a.s.loaded; size > left {
		a.left = left + a.read
		return errDoesNotFit
	}
	a.s.loaded, a.read = a.s.loaded+size, a.read+size
	return nil
}

// why says why the range did not fit.
func (a *admission) why() string {
	most := a.s.options.MaxCachedBytes
	if a.left == most {
		return fmt.Sprintf("it has more than %d bytes, the most that is copied", most)
	}
	return fmt.Sprintf("it has more than the %d bytes that other copies leave of %d", a.left, most)
}

// refuse records that a range is not to be cached for a while: each time for longer.
func (s *Store) refuse(r reflector.Range, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := refusalTTL
	if before := s.refused[r]; before != nil {
		wait = min(2*before.wait, maxRefusalTTL)
	}
	s.refused[r] = &refusal{why: why, wait: wait, until: time.Now().Add(wait)}
	s.options.Logger.Warn("a directory is not copied; its keys are read from etcd each time", "directory", s.displayName(r), "why", why, "for", wait)
}

// whyRefused returns why a range is not to be cached now; "": it may be.
func (s *Store) whyRefused(r reflector.Range) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused := s.refused[r]; refused != nil && time.Now().Before(refused.until) {
		return refused.why
	}
	return ""
}

func (s *Store) forgetRefusal(r reflector.Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refused, r)
}

// forgetRefusals forgets the ranges that nobody has tried again for long.
func (s *Store) forgetRefusals() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r, refused := range s.refused {
		if time.Since(refused.until) > maxRefusalTTL {
			delete(s.refused, r)
		}
	}
}
