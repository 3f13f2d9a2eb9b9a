package kv

import (
	"context"
	"time"

	"disc/discovery"
)

// RollbackOptions are the options of a rollback.
type RollbackOptions struct {
	// TTL is that of [Op]. The TTL that the value had is not taken over.
	TTL time.Duration
	// If is the revision that the key must have; 0: the key must not exist; nil: the one at
	// which Rollback finds it.
	If *int64
}

// Rollback is what a rollback did.
type Rollback struct {
	Restored Item  // the old version, of which the value was written
	Replaced int64 // revision of the version that was there before; 0: there was none
	Revision int64 // of the write
}

// Rollback writes the value that a key had at a revision as a new version. It writes nothing
// if the key changes after Rollback has begun. Errors: those of [Store.GetAt] and of
// [Store.Write].
func (s *Store) Rollback(ctx context.Context, key string, revision int64, o RollbackOptions) (Rollback, error) {
	op := Op{Key: key, TTL: o.TTL, If: o.If}
	if err := op.Validate(); err != nil {
		return Rollback{}, err
	}
	r := &versionReader{Store: s, key: key}
	if op.If == nil {
		now, err := r.at(ctx, 0)
		if err != nil {
			return Rollback{}, err
		}
		op.If = new(int64)
		if now != nil {
			*op.If = now.ModRevision
		}
	}
	old, err := r.then(ctx, revision)
	if err != nil {
		return Rollback{}, err
	}
	if old == nil {
		return Rollback{}, discovery.Errorf(discovery.ErrNotFound,
			"key %q was not there at revision %d, so there is no value to write; to delete the key, use 'disc kv del %s'", key, revision, key)
	}
	op.Value = old.Value
	done, err := s.Write(ctx, op)
	return Rollback{Restored: s.external(itemOf(old)), Replaced: *op.If, Revision: done}, err
}
