package kv

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// maxProbes is the number of revisions that a search reads at once.
const maxProbes = 16

// search is the state of a search for the deletion of a key: a revision at which it was
// there, next to a later one at which it was not.
type search struct {
	compacted int64 // the newest revision that is known to be compacted, or 0
	present   int64 // the newest revision at which the key is known to have been there, or 0
	absent    int64 // the oldest after present at which it is known not to have been there
}

// deletionBefore returns the revision of a deletion of the key, or its expiry, given a
// revision at which the key was not there; 0: none was found.
//
// A deleted key has no revision to go back from, so that this is a search: it reads the key
// at growing distances before the revision, and then between what it has found. It finds a
// life of the key that lasted for at least as many revisions as the key was gone for
// afterwards, and one that etcd keeps the beginning of its revisions from. It may miss
// others, and also a short life after the one that it finds.
func (r *versionReader) deletionBefore(ctx context.Context, absent int64) (int64, error) {
	s := search{absent: absent}
	points := doublings(absent)
	for len(points) > 0 {
		if err := r.probe(ctx, &s, points); err != nil {
			return 0, err
		}
		points = between(max(s.present, s.compacted), s.absent)
	}
	if s.compacted > 0 {
		r.kept = s.compacted + 1
	}
	if s.present <= s.compacted {
		return 0, nil
	}
	return s.absent, nil
}

// doublings returns the revisions 1, 2, 4, … before another.
func doublings(before int64) (points []int64) {
	for distance := int64(1); distance < before; distance *= 2 {
		points = append(points, before-distance)
	}
	return points
}

// between returns up to maxProbes revisions that divide those between two others evenly.
func between(low, high int64) (points []int64) {
	n := min(high-low-1, maxProbes)
	for i := int64(1); i <= n; i++ {
		points = append(points, low+(high-low)*i/(n+1))
	}
	return points
}

// probe reads whether the key was there at revisions before s.absent.
func (r *versionReader) probe(ctx context.Context, s *search, points []int64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxProbes)
	there, compacted := make([]bool, len(points)), make([]bool, len(points))
	for n, revision := range points {
		group.Go(func() error {
			got, err := r.client.Get(ctx, r.prefix+r.key, clientv3.WithRev(revision), clientv3.WithCountOnly())
			if compacted[n] = errors.Is(err, rpctypes.ErrCompacted); compacted[n] {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read key %q at revision %d: %w", r.key, revision, err)
			}
			there[n] = got.Count > 0
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for n, revision := range points {
		switch {
		case compacted[n]:
			s.compacted = max(s.compacted, revision)
		case there[n]:
			s.present = max(s.present, revision)
		}
	}
	for n, revision := range points {
		if !compacted[n] && !there[n] && revision > s.present {
			s.absent = min(s.absent, revision)
		}
	}
	return nil
}
