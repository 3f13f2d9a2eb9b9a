package life

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/lease"
)

// callTimeout bounds one call to etcd. It is short: when one member hangs, another may answer.
const callTimeout = 3 * time.Second

// base is the number that is added to the create revision of a grant's key to get its fence, as
// the value of its key.
type base struct {
	text  string // "": there is no key
	value int64  // 0 where the text is not a number
}

// state is what etcd has about its life, by one linearizable read.
type state struct {
	Identity
	base
	epochRevision    int64 // 0: there is no epoch
	baseRevision     int64
	quarantined      bool
	quarantineReason string
	quarantineLease  clientv3.LeaseID
	length           lengthRecord
	lengthRevision   int64 // 0: the length was never set
	ownRevision      int64 // 0: etcd does not have the agent's own record
}

// read reads the state of etcd. asked names the agent's own record.
func (l *Life) read(ctx context.Context, kv clientv3.KV, asked memory) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reads := []clientv3.Op{
		clientv3.OpGet(l.keys.Epoch()), clientv3.OpGet(l.keys.FenceBase()),
		clientv3.OpGet(l.keys.Quarantine()), clientv3.OpGet(l.keys.QuarantineLength()),
	}
	if asked.own.key != "" {
		reads = append(reads, clientv3.OpGet(asked.own.key, clientv3.WithKeysOnly()))
	}
	r, err := kv.Txn(ctx).Then(reads...).Commit()
	if err != nil {
		return state{}, fmt.Errorf("read epoch: %w", err)
	}
	found := state{Identity: Identity{Header: HeaderOf(r.Header)}, length: lengthRecord{Length: discovery.Duration(DefaultQuarantine)}}
	for n, each := range []func(kv *mvccpb.KeyValue){
		func(kv *mvccpb.KeyValue) { found.Epoch, found.epochRevision = string(kv.Value), kv.ModRevision },
		func(kv *mvccpb.KeyValue) {
			found.baseRevision, found.base = kv.ModRevision, base{text: string(kv.Value)}
			if v, err := strconv.ParseInt(found.text, 10, 64); err == nil {
				found.value = v
			}
		},
		func(kv *mvccpb.KeyValue) {
			found.quarantined, found.quarantineReason, found.quarantineLease = true, string(kv.Value), clientv3.LeaseID(kv.Lease)
		},
		func(kv *mvccpb.KeyValue) {
			found.length, found.lengthRevision = l.parseLength(kv.Value), kv.ModRevision
		},
		func(kv *mvccpb.KeyValue) { found.ownRevision = kv.ModRevision },
	}[:len(reads)] {
		for _, kv := range r.Responses[n].GetResponseRange().Kvs {
			each(kv)
		}
	}
	return found, nil
}

// startedOver returns why the memory from before the state was read is void; empty: it is not.
func (s state) startedOver(asked memory) string {
	before := asked.Identity
	before.Term = 0 // a member that campaigns is ahead of the others, and may fall back
	if reason := s.StartedOver(before); reason != "" {
		return reason
	}
	switch {
	case asked.void != "":
		return asked.void
	case asked.at > 0 && lease.Uptime()-asked.at < time.Hour && s.Revision-asked.Revision >= RevisionJump:
		return "the revision jumped"
	case s.ownRevision != 0 && s.ownRevision < asked.own.revision:
		return "this agent's own record is there in an older state"
	}
	return ""
}

// begun reports whether another agent has begun the new life already, and knew as much of the
// fences as the memory from before does.
func (s state) begun(asked memory) bool {
	return s.epochRevision != 0 && s.Epoch != asked.Epoch && s.value >= asked.highestFence()
}

// highestFence returns a bound of the fences that were given as far as is known.
func (m memory) highestFence() int64 {
	if m.Epoch == "" {
		return 0
	}
	return m.base.value + m.Revision
}

// begin begins a new life, unless another agent does: it writes an epoch and, where there was a
// life before, a quarantine and a higher base. During a quarantine that another agent has begun it
// raises the base only. The first writer wins; the caller reads again what there is.
func (l *Life) begin(ctx context.Context, kv clientv3.KV, found state, asked memory, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	unchanged := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(l.keys.Epoch()), "=", found.epochRevision),
		clientv3.Compare(clientv3.ModRevision(l.keys.FenceBase()), "=", found.baseRevision),
	}
	epoch := clientv3.OpPut(l.keys.Epoch(), rand.Text())
	if reason == "" { // the first life that anybody knows of
		_, err := l.commit(ctx, kv, unchanged, append([]clientv3.Op{epoch}, l.first...)...)
		if len(l.first) > 0 && etcd.Refused(err) == etcd.RefusedPermission {
			l.log.Warn("etcd does not permit all that the first agent of a namespace writes; the epoch is written alone", "error", err)
			_, err = l.commit(ctx, kv, unchanged, epoch)
		}
		return err
	}
	next := max(found.value, asked.highestFence()) + BaseStep
	if next > MaxFence-BaseStep {
		return discovery.Errorf(discovery.ErrUnavailable, "the base of the fences, %s, is %d: there are no higher fences; stop all agents and everything that checks fences, and delete the key", l.keys.FenceBase(), found.value)
	}
	raised := clientv3.OpPut(l.keys.FenceBase(), strconv.FormatInt(next, 10))
	if found.quarantined && found.epochRevision != 0 && found.Epoch != asked.Epoch {
		_, err := l.commit(ctx, kv, append(unchanged, clientv3.Compare(clientv3.CreateRevision(l.keys.Quarantine()), ">", 0)), raised)
		return err
	}
	granted, err := l.client.Grant(ctx, int64(math.Ceil(asked.quarantine.after(found.length, lease.Uptime()).length(lease.Uptime()).Seconds())))
	if err != nil {
		return fmt.Errorf("begin a quarantine: %w", err)
	}
	written, err := l.commit(ctx, kv, unchanged, epoch, raised, clientv3.OpPut(l.keys.Quarantine(), reason, clientv3.WithLease(granted.ID)))
	if err == nil && !written || etcd.Refused(err).Final() {
		_, _ = l.client.Revoke(ctx, granted.ID) // no key uses it; if that fails, it expires by itself
	}
	return err
}

// commit makes the changes if nothing has changed since the state was read. It reports whether
// it did.
func (l *Life) commit(ctx context.Context, kv clientv3.KV, unchanged []clientv3.Cmp, changes ...clientv3.Op) (written bool, err error) {
	txn, err := kv.Txn(ctx).If(unchanged...).Then(changes...).Commit()
	if err != nil {
		return false, fmt.Errorf("write epoch: %w", err)
	}
	return txn.Succeeded, nil
}
