// Package entry edits static entries, and overrides of instances, in etcd.
//
// Each edit reads the instance's keys at one revision, and writes only if none that it depends on
// has changed since, so that it never undoes another edit:
//
//	editor := entry.Editor{Client: client, Keys: keys}
//	change, err := editor.Override(ctx, "web", "web-1", func(o discovery.Override) (discovery.Override, error) {
//		o.State = discovery.Drain
//		return o, nil
//	}, entry.Options{})
package entry

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// Editor edits the entries of a namespace. Its errors that are not documented at a method
// are etcd's.
type Editor struct {
	Client *clientv3.Client
	Keys   discovery.Keys
}

// Options of an edit.
type Options struct {
	// IfRevision is the revision that the entry must have, else the edit fails with a
	// [discovery.ErrConflict]; 0: there must be no entry; nil: any revision.
	IfRevision *int64
	// DryRun returns the change without writing it.
	DryRun bool
	// TTL is the time after which a static entry is removed, rounded up to seconds; 0: never.
	TTL time.Duration
}

// Change is the result of an edit.
type Change struct {
	Before, After *view.Entry // nil: none
	Revision      int64       // etcd's, of the write; 0: nothing was written
}

// revokeTimeout bounds giving back a lease that no key uses.
const revokeTimeout = 3 * time.Second

// maxAttempts is how often an edit is tried while others change the same keys.
const maxAttempts = 8

// PutStatic creates or changes a static entry. edit gets the present entry, or an instance
// with service, id and defaults, and returns the new one. What the caller adds, it has validated
// by [discovery.Instance.Validate]: what an earlier version wrote may stay. PutStatic returns a
// [discovery.ErrConflict] if an agent has registered the id.
func (e Editor) PutStatic(ctx context.Context, service, id string, edit func(discovery.Instance) (discovery.Instance, error), o Options) (Change, error) {
	return e.edit(ctx, service, id, o, func(draft *instanceDraft) error {
		if r := draft.record; r != nil && !r.Leaving {
			return &discovery.ConflictError{Service: r.Service, ID: r.ID, Node: r.Node, Owner: r.Owner}
		}
		i := discovery.Instance{Service: service, ID: id, Weight: 1, Slots: 1, Status: discovery.Passing}
		if draft.static.value != nil {
			var err error
			if i, err = discovery.DecodeInstance(draft.static.value); err != nil {
				return fmt.Errorf("static entry %s/%s: %w; remove it first", service, id, err)
			}
		}
		i, err := edit(i)
		if err != nil {
			return err
		}
		if err := i.ValidateStored(); err != nil {
			return err
		}
		return draft.static.set(i, o.TTL > 0)
	})
}

// Override edits the override of an instance, and removes an override that is empty
// afterwards, unless it has fields that this version does not know. What the caller adds, it has validated by [discovery.Override.Validate]. It returns a [discovery.ErrNotFound] if there is no such instance.
func (e Editor) Override(ctx context.Context, service, id string, edit func(discovery.Override) (discovery.Override, error), o Options) (Change, error) {
	return e.edit(ctx, service, id, o, func(draft *instanceDraft) error {
		if draft.entry == nil && draft.override.value == nil {
			return discovery.Errorf(discovery.ErrNotFound, "there is no instance %s/%s; see 'disc list %s', or give an address to make a static entry", service, id, service)
		}
		var v discovery.Override
		if draft.override.value != nil {
			var err error
			if v, err = discovery.DecodeOverride(draft.override.value); err != nil {
				return fmt.Errorf("override of %s/%s: %w; remove it first", service, id, err)
			}
		}
		v, err := edit(v)
		if err != nil {
			return err
		}
		if err := v.ValidateStored(); err != nil {
			return err
		}
		switch {
		case draft.override.value != nil:
			draft.agent.condition = anyState
		case draft.static.value == nil:
			draft.agent.condition = exists
		}
		if err := draft.override.set(v, false); err != nil {
			return err
		}
		if v.Empty() && !draft.override.unknown {
			draft.override.next = nil
		}
		return nil
	})
}

// Targets selects what [Editor.Remove] removes.
type Targets struct{ Static, Override bool }

// Remove removes a static entry, an override, or both. It returns a
// [discovery.ErrNotFound] if there is neither of those selected.
func (e Editor) Remove(ctx context.Context, service, id string, targets Targets, o Options) (Change, error) {
	return e.edit(ctx, service, id, o, func(draft *instanceDraft) error {
		static, override := targets.Static && draft.static.value != nil, targets.Override && draft.override.value != nil
		if !static && !override {
			return discovery.Errorf(discovery.ErrNotFound, "%s/%s has nothing of the kind to remove; see 'disc get %s/%s'", service, id, service, id)
		}
		if static {
			draft.static.next = nil
		}
		if override {
			draft.override.next = nil
		}
		draft.agent.condition = anyState
		return nil
	})
}

// Patch applies a merge patch to an override, see [discovery.Override.Patch], and returns
// the override and etcd's revision of it.
func (e Editor) Patch(ctx context.Context, service, id string, patch []byte) (discovery.Override, int64, error) {
	var patched discovery.Override
	change, err := e.Override(ctx, service, id, func(o discovery.Override) (_ discovery.Override, err error) {
		patched, err = o.Patch(patch)
		return patched, err
	}, Options{})
	return patched, change.Revision, err
}

// edit reads the keys of an instance, calls edit, and writes what changed if the keys' conditions
// hold; otherwise it starts over. With IfRevision, all keys must be unchanged.
func (e Editor) edit(ctx context.Context, service, id string, o Options, edit func(*instanceDraft) error) (Change, error) {
	if err := discovery.ValidateService(service); err != nil {
		return Change{}, err
	}
	if err := discovery.ValidateID(id); err != nil {
		return Change{}, err
	}
	var backoff retry.Backoff
	for range maxAttempts {
		draft, err := e.read(ctx, service, id)
		if err != nil {
			return Change{}, err
		}
		if o.IfRevision != nil && *o.IfRevision != draft.revision() {
			return Change{}, discovery.Errorf(discovery.ErrConflict, "%s/%s is at revision %d, not %d; look at what changed and try again", service, id, draft.revision(), *o.IfRevision)
		}
		if err := edit(draft); err != nil {
			return Change{}, err
		}
		if o.IfRevision != nil {
			draft.agent.condition = unchanged
		}
		change, written, err := e.write(ctx, draft, o)
		if err != nil || written {
			return change, err
		}
		backoff.Failed()
		if err := backoff.Wait(ctx); err != nil {
			return Change{}, err
		}
	}
	return Change{}, discovery.Errorf(discovery.ErrConflict, "%s/%s was changed by others each of %d times; try again", service, id, maxAttempts)
}

// write commits the edits. written is false if another change came first.
func (e Editor) write(ctx context.Context, draft *instanceDraft, o Options) (change Change, written bool, err error) {
	change = Change{Before: draft.entry, After: draft.after()}
	if o.DryRun || !draft.changed() {
		return change, true, nil
	}
	var lease clientv3.LeaseID // of the static entry
	if o.TTL > 0 && draft.static.next != nil && draft.static.changed() {
		granted, err := e.Client.Grant(ctx, int64((o.TTL+time.Second-1)/time.Second))
		if err != nil {
			return Change{}, false, fmt.Errorf("write %s: %w", draft.static.key, err)
		}
		lease = granted.ID
	}
	txn, err := e.Client.Txn(ctx).If(draft.conditions()...).Then(draft.ops(lease)...).Commit()
	if err != nil {
		if etcd.Refused(err).Final() {
			e.revoke(ctx, lease)
		}
		return Change{}, false, fmt.Errorf("write %s/%s: %w", draft.service, draft.id, err)
	}
	if !txn.Succeeded {
		e.revoke(ctx, lease)
	}
	change.Revision = txn.Header.Revision
	if change.After != nil {
		change.After.Revision = txn.Header.Revision
	}
	return change, txn.Succeeded, nil
}

// revoke revokes a lease that no key uses. If that fails, the lease expires by itself.
func (e Editor) revoke(ctx context.Context, lease clientv3.LeaseID) {
	if lease == clientv3.NoLease {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout) // the caller may be gone
	defer cancel()
	_, _ = e.Client.Revoke(ctx, lease)
}

// read reads the three keys of an instance at one revision.
func (e Editor) read(ctx context.Context, service, id string) (*instanceDraft, error) {
	draft := &instanceDraft{keys: e.Keys, service: service, id: id,
		static: keyEdit{key: e.Keys.Static(service, id)}, override: keyEdit{key: e.Keys.Override(service, id)},
		agent: keyEdit{key: e.Keys.Instance(service, id)}}
	var gets []clientv3.Op
	for _, k := range draft.keyEdits() {
		gets = append(gets, clientv3.OpGet(k.key))
	}
	txn, err := e.Client.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return nil, fmt.Errorf("read %s/%s: %w", service, id, err)
	}
	for n, k := range draft.keyEdits() {
		for _, kv := range txn.Responses[n].GetResponseRange().GetKvs() {
			k.value, k.next, k.created, k.modified, k.lease = kv.Value, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Lease
		}
	}
	draft.merge()
	return draft, nil
}
