package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
)

// Limits of a write.
const (
	MaxOps   = 64      // of one write
	MaxBatch = 1 << 20 // bytes of its keys and values
	MinTTL   = time.Second
	MaxTTL   = 365 * 24 * time.Hour
)

// Op is one operation of a write.
type Op struct {
	Key    string
	Value  []byte // of a put
	Delete bool   // delete the key, else put the value
	// TTL is the time after which etcd deletes the key, rounded up to whole seconds; 0:
	// never. etcd needs at least two seconds.
	TTL time.Duration
	// If is the revision that the key must have; 0: the key must not exist; nil: any.
	If *int64
	// Exists requires that the key exists, at any revision.
	Exists bool
}

// ConditionError names the key of a write whose condition did not hold. It is an
// [discovery.ErrConflict]; nothing was written.
type ConditionError struct {
	Key      string
	Revision int64 // the key's; 0: it does not exist
}

func (e *ConditionError) Error() string {
	if e.Revision == 0 {
		return fmt.Sprintf("key %q is not there; nothing was written", e.Key)
	}
	return fmt.Sprintf("key %q is at revision %d; nothing was written: read it again", e.Key, e.Revision)
}

// Is reports that a ConditionError is a conflict.
func (e *ConditionError) Is(target error) bool { return target == discovery.ErrConflict }

// ErrOutcomeUnknown is the error of a write that etcd did not answer. It may have been made.
var ErrOutcomeUnknown = discovery.Errorf(discovery.ErrUnavailable, "etcd did not answer the write, which may have been made; read the keys before you write again")

// Write makes all operations in one transaction, or none, and returns etcd's revision.
// Errors: an ErrInvalid operation, a [*ConditionError], [ErrOutcomeUnknown], an ErrBusy, an
// ErrStorageFull unless all operations are deletions, or etcd's.
func (s *Store) Write(ctx context.Context, ops ...Op) (int64, error) {
	if err := validate(ops); err != nil {
		return 0, err
	}
	if err := s.admit(ctx, ops); err != nil {
		return 0, fmt.Errorf("write key %q: %w", ops[0].Key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	leases, err := s.grantLeases(ctx, ops)
	if err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		s.revoke(ctx, leases)
		return 0, fmt.Errorf("write key %q: nothing was written: %w", ops[0].Key, err)
	}
	revision, before, err := s.commit(ctx, ops, leases)
	if err != nil {
		if !errors.Is(err, ErrOutcomeUnknown) {
			s.revoke(ctx, leases) // no key uses them
		}
		return 0, err
	}
	s.budget.written(ops, before)
	replaced := map[clientv3.LeaseID]bool{}
	addOwnLeases(replaced, before)
	s.release(ctx, replaced)
	return revision, nil
}

// admit returns an error if the store may not write at the moment. It lets deletions through
// where there is no space.
func (s *Store) admit(ctx context.Context, ops []Op) error {
	puts, size := false, 0
	for _, op := range ops {
		puts = puts || !op.Delete
		size += len(op.Key) + len(op.Value)
	}
	if puts {
		if err := s.options.Space.Check(ctx, size); err != nil {
			return err
		}
		if err := s.budget.check(ctx); err != nil {
			return err
		}
	}
	return s.options.Rate.Take(ctx, len(ops))
}

// DeleteBelow deletes all keys below a prefix at one revision, and returns their number and
// the revision. Errors: ErrInvalid for a bad prefix, and for "", which is everything;
// [ErrOutcomeUnknown], an ErrBusy, or etcd's.
func (s *Store) DeleteBelow(ctx context.Context, prefix string) (deleted, revision int64, err error) {
	if prefix == "" {
		return 0, 0, discovery.Errorf(discovery.ErrInvalid, "the prefix is empty; give one, such as app/")
	}
	if err := ValidatePrefix(prefix); err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.options.Rate.Take(ctx, 1); err != nil {
		return 0, 0, fmt.Errorf("delete below %q: %w", prefix, err)
	}
	below := s.prefixRange(prefix)
	// A key that gets its lease between the two calls keeps that lease until it ends. To read
	// in the transaction that deletes would hold up all other writes.
	leases := s.leasesBelow(ctx, below)
	done, err := s.client.Delete(ctx, below.From, clientv3.WithRange(below.To))
	if err != nil {
		return 0, 0, fmt.Errorf("delete below %q: %w", prefix, writeError(err))
	}
	s.budget.deleted(done.Deleted)
	s.release(ctx, leases)
	return done.Deleted, done.Header.Revision, nil
}

// validate checks each operation, that no key repeats, and the bounds of the whole write.
func validate(ops []Op) error {
	if len(ops) == 0 || len(ops) > MaxOps {
		return discovery.Errorf(discovery.ErrInvalid, "%d operations; give 1 to %d", len(ops), MaxOps)
	}
	size, seen := 0, map[string]bool{}
	for _, op := range ops {
		if err := op.Validate(); err != nil {
			return err
		}
		if seen[op.Key] {
			return discovery.Errorf(discovery.ErrInvalid, "key %q is there twice; give each key one operation", op.Key)
		}
		seen[op.Key] = true
		size += len(op.Key) + len(op.Value)
	}
	if size > MaxBatch {
		return discovery.Errorf(discovery.ErrInvalid, "%d bytes of keys and values are too many; at most %d are allowed", size, MaxBatch)
	}
	return nil
}

// Validate returns an [discovery.ErrInvalid] unless the operation is sound.
func (op *Op) Validate() error {
	if err := ValidateKey(op.Key); err != nil {
		return err
	}
	switch {
	case len(op.Value) > MaxValue:
		return discovery.Errorf(discovery.ErrInvalid, "the value of key %q has %d bytes; at most %d are allowed", op.Key, len(op.Value), MaxValue)
	case op.TTL != 0 && (op.TTL < MinTTL || op.TTL > MaxTTL):
		return discovery.Errorf(discovery.ErrInvalid, "ttl %v of key %q is out of range; use %v to %v",
			discovery.Duration(op.TTL), op.Key, discovery.Duration(MinTTL), discovery.Duration(MaxTTL))
	case op.Delete && (op.TTL != 0 || op.Value != nil):
		return discovery.Errorf(discovery.ErrInvalid, "the deletion of key %q has a value or a ttl", op.Key)
	case op.If != nil && *op.If < 0:
		return discovery.Errorf(discovery.ErrInvalid, "revision %d of key %q is negative; use 0 for a key that must not exist", *op.If, op.Key)
	}
	return nil
}

// commit sends the operations as one transaction. It returns etcd's revision, and each
// operation's key as it was before; nil: it did not exist.
func (s *Store) commit(ctx context.Context, ops []Op, leases map[time.Duration]clientv3.LeaseID) (revision int64, before []*mvccpb.KeyValue, err error) {
	var conditions []clientv3.Cmp
	var then, reads []clientv3.Op
	for _, op := range ops {
		key := s.prefix + op.Key
		if op.If != nil {
			conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(key), "=", *op.If))
		}
		if op.Exists {
			conditions = append(conditions, clientv3.Compare(clientv3.CreateRevision(key), ">", 0))
		}
		if op.Delete {
			then = append(then, clientv3.OpDelete(key, clientv3.WithPrevKV()))
		} else {
			then = append(then, clientv3.OpPut(key, string(op.Value), clientv3.WithLease(leases[op.TTL]), clientv3.WithPrevKV()))
		}
		reads = append(reads, clientv3.OpGet(key, clientv3.WithKeysOnly()))
	}
	txn, err := s.client.Txn(ctx).If(conditions...).Then(then...).Else(reads...).Commit()
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("write key %q: %w", ops[0].Key, writeError(err))
	case !txn.Succeeded:
		return 0, nil, failedCondition(ops, txn)
	}
	before = make([]*mvccpb.KeyValue, len(ops))
	for n, r := range txn.Responses {
		before[n] = r.GetResponsePut().GetPrevKv()
		for _, kv := range r.GetResponseDeleteRange().GetPrevKvs() {
			before[n] = kv
		}
	}
	return txn.Header.Revision, before, nil
}

// writeError returns etcd's error if it refused the write, otherwise [ErrOutcomeUnknown].
func writeError(err error) error {
	if etcd.Refused(err) != etcd.NotRefused {
		return err
	}
	return ErrOutcomeUnknown
}

// failedCondition returns the error of the first condition that did not hold.
func failedCondition(ops []Op, txn *clientv3.TxnResponse) error {
	for n, op := range ops {
		var revision int64
		for _, kv := range txn.Responses[n].GetResponseRange().GetKvs() {
			revision = kv.ModRevision
		}
		if op.If != nil && *op.If != revision || op.Exists && revision == 0 {
			return &ConditionError{op.Key, revision}
		}
	}
	return discovery.Errorf(discovery.ErrConflict, "a condition did not hold, and holds now; try again")
}
