package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/life"
)

// breakTries is how often a break is tried while the holder's key changes.
const breakTries = 5

// awaitInterval is how often [Breakage.Await] reads the key.
const awaitInterval = 5 * time.Second

// Broken marks a lock as broken. It is part of the value of its holder's key.
type Broken struct {
	By string    `json:"by"` // who broke it
	At time.Time `json:"at"` // by the clock of the host that broke it
}

// BreakRequest says how a lock is broken.
type BreakRequest struct {
	// Holder is the id of the holder, or its beginning where only one holder's begins so.
	// Empty: the only holder.
	Holder string

	// Now removes the holder's key at once. The holder may then still rely on the lock while
	// another has it.
	Now bool

	By      string // who breaks it; shown to the holder
	OwnOnly bool   // of a manager: only locks that it has granted
}

// Breakage is the outcome of a break.
type Breakage struct {
	Holder Caller        // who held the lock
	Within time.Duration // the time after which its key can be removed; 0: it is gone

	key         string
	modRevision int64 // of the marked key
}

// Break takes a lock away from its holder. It marks the holder's key: the holder's agent then
// tells its holder that the lock is lost, and removes the key when the holder does not rely on it
// any more. If that agent does not, this manager and all that wait for the lock remove the key
// once they have known the mark for longer than any agent promises a lock. No mark is written while
// the namespace is below [discovery.LevelLockBreaks].
//
// ErrInvalid: the lock has several holders, and r.Holder does not name one; ErrNotFound: nobody
// holds the lock, or not that holder; ErrForbidden: see r.OwnOnly; ErrConflict: the feature level
// does not allow the mark, or the holder's key keeps changing.
func (m *Manager) Break(ctx context.Context, name string, r BreakRequest) (Breakage, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if r.By == "" {
		r.By = "a caller of the agent on node " + m.node
	}
	if r.OwnOnly {
		q, err := m.Queue(ctx, name)
		if err != nil {
			return Breakage{}, err
		}
		holder, err := q.holder(r.Holder)
		if err != nil {
			return Breakage{}, err
		}
		if !m.isLive(holder.id) {
			return Breakage{}, discovery.Errorf(discovery.ErrForbidden,
				"lock %q is held through another agent; break it with 'disc lock break', which speaks to etcd, or set http.tokens and send a token with scope operate", name)
		}
		r.Holder = holder.id
	}
	b, err := Break(ctx, m.client, m.keys, name, r)
	if err != nil {
		return Breakage{}, err
	}
	m.log.Warn("a lock is broken", "name", name, "by", r.By, "holder", b.Holder.Holder, "node", b.Holder.Node, "now", r.Now)
	m.mu.Lock()
	g, own := m.grants[b.Holder.id]
	m.mu.Unlock()
	if b.Within > 0 {
		m.noteMark(b.key, b.modRevision)
		if own {
			m.markedBroken(g, *b.Holder.Broken)
		}
		b.Within = m.life.Quarantine()
	}
	return b, nil
}

// Break is [Manager.Break] for a program that is no agent. Nobody removes the marked key for it
// but the holder's agent and those that wait for the lock; see [Breakage.Remove].
func Break(ctx context.Context, client *clientv3.Client, keys discovery.Keys, name string, r BreakRequest) (Breakage, error) {
	within, err := life.ReadQuarantine(ctx, client, keys) // no promise lasts longer
	if err != nil {
		return Breakage{}, fmt.Errorf("break lock %q: %w", name, err)
	}
	if !r.Now {
		if err := marksAllowed(ctx, client, keys, name); err != nil {
			return Breakage{}, err
		}
	}
	for range breakTries {
		q, err := ReadQueue(ctx, client, keys, name)
		if err != nil {
			return Breakage{}, err
		}
		holder, err := q.holder(r.Holder)
		if err != nil {
			return Breakage{}, err
		}
		r.Holder = holder.id // and no other, if it goes meanwhile
		if b, done, err := breakHolder(ctx, client, name, holder, r, within); err != nil || done {
			return b, err
		}
	}
	return Breakage{}, discovery.Errorf(discovery.ErrConflict, "break lock %q: its holder's key keeps changing; try again", name)
}

// marksAllowed returns an error if an agent of the namespace may not know marks of broken locks.
func marksAllowed(ctx context.Context, client *clientv3.Client, keys discovery.Keys, name string) error {
	r, err := client.Get(ctx, keys.Level())
	if err != nil {
		return fmt.Errorf("break lock %q: read the feature level: %w", name, err)
	}
	level := discovery.LevelRecord{Level: discovery.LevelFirst}
	for _, kv := range r.Kvs {
		if level, err = discovery.DecodeLevel(kv.Value); err != nil {
			return fmt.Errorf("break lock %q: %s: %w; delete the key, and the agents write the level that they know", name, keys.Level(), err)
		}
	}
	if level.Level < discovery.LevelLockBreaks {
		return discovery.Errorf(discovery.ErrConflict, "lock %q stays as it is: the feature level of the namespace is %d, and breaks need %d, "+
			"since an agent of an earlier version does not tell its holder; 'disc status' names the agents to upgrade. Or stop the holder, and break the lock with --now (?now)",
			name, level.Level, discovery.LevelLockBreaks)
	}
	return nil
}

// breakHolder marks or removes the key of a holder, which goes within a time. It returns false if the key has changed.
func breakHolder(ctx context.Context, client *clientv3.Client, name string, holder Caller, r BreakRequest, within time.Duration) (b Breakage, done bool, err error) {
	b = Breakage{Holder: holder, key: holder.key, modRevision: holder.modRevision}
	op := clientv3.OpDelete(holder.key)
	switch {
	case r.Now:
	case holder.Broken != nil: // it stays marked as it is
		b.Within = within
		return b, true, nil
	default:
		b.Holder.Broken, b.Within = &Broken{By: r.By, At: time.Now().UTC()}, within
		value, err := markValue(holder.value, *b.Holder.Broken)
		if err != nil {
			return Breakage{}, false, fmt.Errorf("break lock %q: %w", name, err)
		}
		op = clientv3.OpPut(holder.key, value, clientv3.WithLease(holder.lease))
	}
	t, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(holder.key), "=", holder.modRevision)).Then(op).Commit()
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound): // the key goes with its lease
		b.Within = 0
		return b, true, nil
	case err != nil:
		return Breakage{}, false, fmt.Errorf("break lock %q: %w", name, err)
	}
	if !r.Now {
		b.modRevision = t.Header.Revision
	}
	return b, t.Succeeded, nil
}

// holder returns the holder whose id begins with id; "": the only holder.
func (q Queue) holder(id string) (Caller, error) {
	var found, all []string
	var holder Caller
	for _, h := range q.Holders {
		all = append(all, fmt.Sprintf("%s (node %s)", h.Holder, h.Node))
		if strings.HasPrefix(h.id, id) {
			found, holder = append(found, h.id), h
		}
	}
	switch {
	case len(found) == 0:
		return Caller{}, discovery.Errorf(discovery.ErrNotFound, "lock %q is not held by %q; its holders are %s", q.Name, id, strings.Join(all, ", "))
	case len(found) > 1:
		return Caller{}, discovery.Errorf(discovery.ErrInvalid, "lock %q has several such holders; name one of %s", q.Name, strings.Join(all, ", "))
	}
	return holder, nil
}

// markValue returns the value of a holder's key with a mark. It keeps the fields that it does
// not know; a value that cannot be read is replaced.
func markValue(value []byte, b Broken) (string, error) {
	fields := map[string]json.RawMessage{}
	if json.Unmarshal(value, &fields) != nil || fields == nil {
		fields = map[string]json.RawMessage{}
	}
	mark, err := json.Marshal(b)
	if err != nil {
		return "", err
	}
	fields["broken"] = mark
	marked, err := json.Marshal(fields)
	return string(marked), err
}

// brokenMark returns the mark in the value of a lock's key, or nil if there is none.
func brokenMark(value []byte) *Broken {
	if !bytes.Contains(value, []byte(`"broken"`)) {
		return nil
	}
	var s record
	if json.Unmarshal(value, &s) != nil {
		return nil
	}
	return s.Broken
}

// markedBroken ends a grant whose key was marked. Its holder is told at once. The key stays for
// as long as the holder was promised, and is then removed as an orphan.
func (m *Manager) markedBroken(g *Grant, b Broken) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g.phase == pending || g.phase == active {
		m.expireGrant(g, g.brokenBy(b))
	}
}

// brokenBy returns the ErrLost of a grant that was broken.
func (g *Grant) brokenBy(b Broken) error { return g.lostBecause("it was broken by %s", b.By) }

// Remove removes the marked key, unless it has changed since. Call it no earlier than after
// b.Within. gone is true if the key was gone already.
func (b Breakage) Remove(ctx context.Context, client *clientv3.Client) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(b.key), "=", b.modRevision)).
		Then(clientv3.OpDelete(b.key)).Commit()
	if err != nil {
		return false, fmt.Errorf("remove %s: %w", b.key, err)
	}
	return !r.Succeeded, nil
}

// Await waits until the marked key is gone or ctx ends. It also reads the key from time to time: etcd's
// grpc-proxy may miss that it goes.
func (b Breakage) Await(ctx context.Context, client *clientv3.Client) error {
	if b.Within == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	tick := time.NewTicker(awaitInterval)
	defer tick.Stop()
	watch := client.Watch(ctx, b.key, clientv3.WithRev(b.modRevision+1), clientv3.WithFilterPut())
	for {
		select {
		case r, ok := <-watch:
			switch {
			case !ok:
				return ctx.Err()
			case r.Err() != nil:
				return fmt.Errorf("watch %s: %w", b.key, r.Err())
			case len(r.Events) > 0:
				return nil
			}
		case <-tick.C:
			if b.isGone(ctx, client) {
				return nil
			}
		}
	}
}

// isGone reports whether etcd says that the marked key is gone.
func (b Breakage) isGone(ctx context.Context, client *clientv3.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := client.Get(ctx, b.key, clientv3.WithKeysOnly())
	return err == nil && (len(r.Kvs) == 0 || r.Kvs[0].CreateRevision > b.modRevision)
}
