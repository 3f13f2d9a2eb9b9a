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
	Replaced Item  // the version that was there before; the zero Item if there was none
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
	var done Rollback
	r := &versionReader{Store: s, key: key}
	now, err := r.at(ctx, 0)
	if err != nil {
		return Rollback{}, err
	}
	if now != nil {
		done.Replaced = s.external(itemOf(now))
	}
	if op.If == nil {
		op.If = &done.Replaced.Revision
	}
	old, err := r.then(ctx, revision)
	if err != nil {
		return Rollback{}, err
	}
	if old == nil {
		return Rollback{}, discovery.Errorf(discovery.ErrNotFound,
			"key %q was not there at revision %d, so there is no value to write; to delete the key, use 'disc kv del %s'", key, revision, key)
	}
	done.Restored = s.external(itemOf(old))
	op.Value = done.Restored.Value
	if done.Revision, err = s.Write(ctx, op); err != nil {
		return Rollback{}, err
	}
	return done, nil
}
