package life

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lease"
)

// QuarantineStatus is the length of quarantines in the namespace, and the quarantine that goes on.
type QuarantineStatus struct {
	Length         time.Duration // as it was last set
	InEffectWithin time.Duration // until then a longer quarantine, or a shorter promise, is in effect; 0: Length is in effect
	Active         bool          // a quarantine goes on
	Reason         string        // why the quarantine was begun
	EndsWithin     time.Duration // that the quarantine has left, in full seconds
}

// SetQuarantine sets the length of quarantines in the namespace. It takes effect when every promise
// has ended that was made under the length before. ErrInvalid: the length is out of range;
// ErrConflict: the change before has not taken effect yet, or another change came in between.
func (l *Life) SetQuarantine(ctx context.Context, length time.Duration) (QuarantineStatus, error) {
	found, err := l.observe(ctx)
	if err != nil {
		return QuarantineStatus{}, err
	}
	record, err := l.knownLength(found).change(length, lease.Uptime())
	if err != nil {
		return QuarantineStatus{}, err
	}
	if err := l.writeLength(ctx, found, record); err != nil {
		return QuarantineStatus{}, err
	}
	return l.QuarantineStatus(ctx)
}

// QuarantineStatus reads the length of quarantines, and the quarantine that goes on, from etcd.
func (l *Life) QuarantineStatus(ctx context.Context) (QuarantineStatus, error) {
	found, err := l.observe(ctx)
	if err != nil {
		return QuarantineStatus{}, err
	}
	s := QuarantineStatus{Length: time.Duration(found.length.Length), InEffectWithin: l.knownLength(found).pending(lease.Uptime())}
	if !found.quarantined {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	left, err := l.client.TimeToLive(ctx, found.quarantineLease)
	if err != nil {
		return QuarantineStatus{}, fmt.Errorf("read the lease of the quarantine: %w", err)
	}
	s.Active, s.Reason = true, found.quarantineReason
	s.EndsWithin = time.Duration(max(left.TTL, 1)) * time.Second // etcd revokes an expired lease within a second
	return s, nil
}

// observe learns whether etcd goes on, and returns its state.
func (l *Life) observe(ctx context.Context) (state, error) {
	if _, err := l.Check(ctx, l.client, Identity{}); err != nil {
		return state{}, err
	}
	return l.read(ctx, l.client, memory{})
}

// knownLength returns what the agent knows of the length of quarantines after a state was read.
func (l *Life) knownLength(found state) quarantine {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memory.quarantine, l.memory.lengthRevision = l.memory.quarantine.after(found.length, lease.Uptime()), found.lengthRevision
	return l.memory.quarantine
}

// writeLength writes the record of the length if that and the epoch are as they were found.
func (l *Life) writeLength(ctx context.Context, found state, record lengthRecord) error {
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode the length of quarantines: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := l.keys.QuarantineLength()
	r, err := l.client.Txn(ctx).If(
		clientv3.Compare(clientv3.ModRevision(key), "=", found.lengthRevision),
		clientv3.Compare(clientv3.Value(l.keys.Epoch()), "=", found.Epoch),
	).Then(clientv3.OpPut(key, string(value))).Commit()
	switch {
	case err != nil:
		return fmt.Errorf("write the length of quarantines: %w", err)
	case !r.Succeeded:
		return discovery.Errorf(discovery.ErrConflict, "the length of quarantines was changed in this moment by another caller; look at it and try again")
	}
	return nil
}

// change returns the record that sets another length. A length that is set already is no change.
func (q quarantine) change(length, now time.Duration) (lengthRecord, error) {
	switch pending := q.pending(now); {
	case length < MinQuarantine || length > MaxQuarantine:
		return lengthRecord{}, discovery.Errorf(discovery.ErrInvalid, "a quarantine of %v is out of range; give a length from %v to %v",
			discovery.Duration(length), discovery.Duration(MinQuarantine), discovery.Duration(MaxQuarantine))
	case length == time.Duration(q.Length):
		return q.lengthRecord, nil
	case pending > 0:
		return lengthRecord{}, discovery.Errorf(discovery.ErrConflict, "the length of quarantines was changed to %v a short time ago, which takes effect in %v; try again then",
			q.Length, discovery.Duration(roundUp(pending)))
	}
	return lengthRecord{Length: discovery.Duration(length), Before: q.Length}, nil
}

// pending returns the time until the length is in effect; 0: it is.
func (q quarantine) pending(now time.Duration) time.Duration {
	if length := time.Duration(q.Length); q.length(now) == length && q.promise(now) == length {
		return 0
	}
	return q.settledAt() - now
}

// roundUp rounds a duration up to seconds.
func roundUp(d time.Duration) time.Duration { return (d + time.Second - 1).Truncate(time.Second) }
