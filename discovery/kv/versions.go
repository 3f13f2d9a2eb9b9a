package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// The bounds of a history.
const (
	MaxVersions     = 100
	maxHistoryBytes = 8 << 20 // of its values
)

// Version is a write or a deletion of a key.
type Version struct {
	Item                    // of a deletion: the key and the revision only
	Number    int64         // counts the writes since the key was created, from 1; 0: a deletion
	ExpiresIn time.Duration // of the present value, if it has a lease; otherwise 0
}

// Older tells what there is before the oldest version of a history.
type Older string

// The values of Older.
const (
	// OlderMore: there are more versions. Another history starts at a lower revision.
	OlderMore Older = "more"
	// OlderCompacted: there were more versions, and etcd has compacted them.
	OlderCompacted Older = "compacted"
	// OlderNone: the oldest version created the key, and no earlier one was found.
	OlderNone Older = "none_found"
)

// History are versions of a key.
type History struct {
	Versions []Version // newest first; at least one
	Older    Older
}

// HistoryOptions choose the versions of a history.
type HistoryOptions struct {
	From int64 // the revision to go back from; 0: the present one
	Max  int   // number of versions, up to MaxVersions
}

// History returns versions of a key, newest first. It reads from etcd, one revision back at
// a time. A watch from an old revision would have all, but etcd walks the keys of everybody
// for it while it holds the lock of its store.
//
// Where the key was not there, History goes on from the end of an earlier life of the key,
// if it finds one; see [versionReader.deletionBefore]. It ends early when the values have
// more than 8 MiB. Errors: ErrInvalid for a bad key, number or revision; ErrNotFound, with
// the freshness, when there is no version, or From is compacted.
func (s *Store) History(ctx context.Context, key string, o HistoryOptions) (History, Freshness, error) {
	if err := ValidateKey(key); err != nil {
		return History{}, Freshness{}, err
	}
	if o.Max < 1 || o.Max > MaxVersions {
		return History{}, Freshness{}, discovery.Errorf(discovery.ErrInvalid, "%d versions are out of range; use 1 to %d", o.Max, MaxVersions)
	}
	if o.From < 0 {
		return History{}, Freshness{}, badRevision(o.From)
	}
	r := &versionReader{Store: s, key: key}
	h, err := r.history(ctx, o)
	switch {
	case err != nil:
		err = r.explain(ctx, o.From, err)
	case len(h.Versions) == 0:
		err = r.notFound(o.From)
	case o.From == 0:
		s.setExpiry(ctx, &h.Versions[0])
	}
	fresh := Freshness{Revision: r.head}
	if err == nil {
		fresh.Index = h.Versions[0].Revision
	}
	return h, fresh, err
}

// GetAt returns the item that a key had at a revision, with etcd's present revision as the
// freshness. Errors: ErrInvalid for a bad key, or a revision that etcd has not reached;
// ErrNotFound, with the freshness, when the key was not there, or etcd has compacted the
// revision.
func (s *Store) GetAt(ctx context.Context, key string, revision int64) (Item, Freshness, error) {
	if err := ValidateKey(key); err != nil {
		return Item{}, Freshness{}, err
	}
	r := &versionReader{Store: s, key: key}
	found, err := r.then(ctx, revision)
	switch {
	case err != nil:
		return Item{}, Freshness{Revision: r.head}, err
	case found == nil:
		return Item{}, Freshness{Revision: r.head}, discovery.Errorf(discovery.ErrNotFound,
			"key %q was not there at revision %d; 'disc kv history %s' shows its versions", key, revision, key)
	}
	return s.external(itemOf(found)), Freshness{Revision: r.head, Index: found.ModRevision}, nil
}

func badRevision(revision int64) error {
	return discovery.Errorf(discovery.ErrInvalid, "%d is not a revision of etcd; give one from 1", revision)
}

// versionReader reads the versions of a key.
type versionReader struct {
	*Store
	key  string
	head int64 // etcd's present revision, as of the first read
	kept int64 // the oldest revision that etcd keeps, if a search came to one that it does not; otherwise 0
}

// then reads the key at a revision, as at does, and explains an error.
func (r *versionReader) then(ctx context.Context, revision int64) (*mvccpb.KeyValue, error) {
	if revision < 1 {
		return nil, badRevision(revision)
	}
	found, err := r.at(ctx, revision)
	if err != nil {
		err = r.explain(ctx, revision, err)
	}
	return found, err
}

// at reads the key at a revision; 0: now. It returns nil if the key was not there.
func (r *versionReader) at(ctx context.Context, revision int64) (*mvccpb.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := r.client.Get(ctx, r.prefix+r.key, clientv3.WithRev(revision))
	if err != nil {
		return nil, fmt.Errorf("read key %q at revision %d: %w", r.key, revision, err)
	}
	if r.head == 0 {
		r.head = got.Header.Revision
	}
	if len(got.Kvs) == 0 {
		return nil, nil
	}
	return got.Kvs[0], nil
}

// history collects versions, of which there may be none.
func (r *versionReader) history(ctx context.Context, o HistoryOptions) (h History, err error) {
	size := 0
	var last Version
	for v, err := range r.versions(ctx, o.From) {
		switch {
		case errors.Is(err, rpctypes.ErrCompacted) && len(h.Versions) > 0:
			h.Older = OlderCompacted
			if last.Number == 1 { // what is compacted is from before it was created, if anything
				h.Older = OlderNone
			}
			return h, nil
		case err != nil:
			return History{}, err
		}
		if size += len(v.Value); len(h.Versions) == o.Max || size > maxHistoryBytes && len(h.Versions) > 0 {
			h.Older = OlderMore
			return h, nil
		}
		h.Versions, last = append(h.Versions, v), v
	}
	h.Older = OlderNone
	return h, nil
}

// versions yields the versions of the key from a revision back, newest first.
func (r *versionReader) versions(ctx context.Context, from int64) iter.Seq2[Version, error] {
	return func(yield func(Version, error) bool) {
		for at := from; ; {
			found, err := r.at(ctx, at)
			if at == 0 {
				at = r.head
			}
			var v Version
			if found != nil {
				v = Version{Item: r.external(itemOf(found)), Number: found.Version}
			} else if err == nil {
				v.Key = r.key
				v.Revision, err = r.deletionBefore(ctx, at)
			}
			if err == nil && v.Revision == 0 {
				return // none was found
			}
			if !yield(v, err) || err != nil {
				return
			}
			at = v.Revision - 1
		}
	}
}

// setExpiry sets the time until the present value of a key expires.
func (s *Store) setExpiry(ctx context.Context, v *Version) {
	if v.Lease == clientv3.NoLease {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if lease, err := s.client.TimeToLive(ctx, v.Lease); err == nil && lease.TTL > 0 { // otherwise it has expired since, or nobody may ask
		v.ExpiresIn = time.Duration(lease.TTL) * time.Second
	}
}

// explain returns an error that says what to do about a revision that cannot be read.
func (r *versionReader) explain(ctx context.Context, revision int64, err error) error {
	compacted, future := errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev)
	if !compacted && !future {
		return err
	}
	if _, err := r.at(ctx, 0); err != nil { // for the present revision
		return err
	}
	if compacted {
		return discovery.Errorf(discovery.ErrNotFound, "key %q at revision %d: etcd has compacted this revision; it keeps old ones for as long as its --auto-compaction-retention says, 'disc dev' for 1h", r.key, revision)
	}
	return discovery.Errorf(discovery.ErrInvalid, "key %q at revision %d: etcd is at revision %d only; give one up to that", r.key, revision, r.head)
}

// notFound returns the error of a history without versions.
func (r *versionReader) notFound(from int64) error {
	at, kept := "is not there", ""
	if from > 0 {
		at = fmt.Sprintf("was not there at revision %d", from)
	}
	if r.kept > 0 {
		kept = fmt.Sprintf(" in the revisions that etcd keeps, from %d on", r.kept)
	}
	return discovery.Errorf(discovery.ErrNotFound,
		"key %q %s, and no earlier version was found%s; a search may miss a short life: give a revision at which the key was there, if you know one", r.key, at, kept)
}
