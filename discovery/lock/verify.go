package lock

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/etcd"
	"disc/discovery/lease"
	"disc/discovery/retry"
)

const (
	// verifyInterval bounds the time until a new life of etcd behind a proxy is noticed. The keys of
	// all grants are read more often, five times in a promise.
	verifyInterval = 50 * time.Second
	// proxiedInterval is the same where etcd's grpc-proxy answers, whose watches may miss changes.
	proxiedInterval = 10 * time.Second
	// watchDelay is how long a grant lasts before its key is watched: most are released earlier.
	watchDelay = 250 * time.Millisecond
	// keyBatch is the number of keys of one transaction; etcd accepts at most 128.
	keyBatch = 100
)

// verifier compares the keys of the grants with etcd, by watches and by reads. Only verifyLoop uses
// it.
type verifier struct {
	*Manager
	stream  *etcd.WatchStream // nil: none is open
	watched map[int64]*Grant  // by the id of the watch
	lastID  int64
	lives   int           // new lives of etcd that were seen
	renewal int64         // the revision in the answer to the session's last renewal
	backoff retry.Backoff // of what failed
	readAt  time.Duration // uptime at which all keys were last read
	usedAt  time.Duration // uptime at which there last was a grant to watch
	retryAt time.Duration // uptime before which nothing is tried again
}

// verifyLoop watches the keys of the grants. It reads all of them after each break of contact with
// etcd, in a new life of etcd, and five times in a promise, until ctx ends.
func (m *Manager) verifyLoop(ctx context.Context) {
	v := &verifier{Manager: m, watched: map[int64]*Grant{}}
	defer v.closeStream()
	tick := time.NewTicker(watchDelay)
	defer tick.Stop()
	for ctx.Err() == nil {
		lives, changed := m.life.Count()
		_, leaseChanged := m.session.Lease()
		v.step(ctx, lives)
		ticks := tick.C
		if v.idle() {
			ticks = nil
		}
		v.handleUntil(ctx, changed, leaseChanged, ticks)
	}
}

// handleUntil handles what the stream sends, until the next step is due. A step looks at all
// grants, and a stream sends at least one response for each.
func (v *verifier) handleUntil(ctx context.Context, changed, leaseChanged <-chan struct{}, ticks <-chan time.Time) {
	for {
		var responses <-chan *pb.WatchResponse
		if v.stream != nil {
			responses = v.stream.Responses()
		}
		select {
		case r, ok := <-responses:
			v.handle(r, ok)
			continue
		case <-changed:
		case <-leaseChanged:
		case <-v.activated:
		case <-ticks:
		case <-ctx.Done():
		}
		return
	}
}

// idle reports whether there is nothing to watch, and nothing to try again. The next grant then
// wakes verifyLoop.
func (v *verifier) idle() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watching = v.stream != nil || v.verified != v.life.Proven() || v.countPhase(active) > 0
	return !v.watching
}

// step does what is due.
func (v *verifier) step(ctx context.Context, lives int) {
	now := lease.Uptime()
	if now < v.retryAt {
		return
	}
	err := v.verifyAll(ctx, lives, now)
	if err == nil {
		err = v.watchNew(ctx, now)
	}
	if err == nil {
		v.backoff.Reset()
		return
	}
	if v.backoff.Failed() && ctx.Err() == nil {
		v.log.Warn("cannot compare the keys of locks and claims with etcd; trying again", "failures", v.backoff.Failures(), "error", err)
	}
	v.retryAt = now + v.backoff.Next()
}

// verifyAll reads the keys of all grants if that is due.
func (v *verifier) verifyAll(ctx context.Context, lives int, now time.Duration) error {
	v.noteRenewal()
	v.noteLease()
	contact := v.life.Proven()
	v.mu.Lock()
	broken := v.verified != contact
	v.mu.Unlock()
	again := broken || lives != v.lives
	if !again && now < v.readAt+v.interval() {
		return nil
	}
	if again && v.hasGranted() { // keys that were deleted may be back
		v.expectOrphans()
		v.orphans.Notify()
	}
	_, err := v.read(ctx, v.held(), broken)
	if err != nil {
		return err
	}
	v.lives, v.readAt = lives, now
	v.mu.Lock()
	defer v.mu.Unlock()
	if broken {
		v.verified = contact
		close(v.verifiedAgain)
		v.verifiedAgain = make(chan struct{})
	}
	return nil
}

// interval returns the time until the keys of all grants are read again.
func (v *verifier) interval() time.Duration {
	longest := verifyInterval
	if v.stream != nil && v.stream.Proxied() {
		longest = proxiedInterval
	}
	return min(longest, v.life.MaxPromise()/5)
}

// hasGranted reports whether anything was ever requested of this manager.
func (m *Manager) hasGranted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// noteRenewal asks whether etcd goes on if the member that renewed the session's lease has an older
// state than is known.
func (v *verifier) noteRenewal() {
	current, _ := v.session.Lease()
	if current.Revision != v.renewal && current.Revision < v.life.Revision() {
		v.life.Doubt() // its member lags, or etcd has started over behind a proxy
	}
	v.renewal = current.Revision
}

// noteLease keeps this agent from granting anything for a while if its session's previous lease was
// lost across a break of contact with etcd: it may be that etcd was restored from a backup. It is
// called before anything is granted under a lease.
func (m *Manager) noteLease() {
	m.mu.Lock()
	defer m.mu.Unlock()
	current, _ := m.session.Lease()
	if current.ID != m.leaseID && current.AcrossBreak {
		m.life.Block()
	}
	m.leaseID = current.ID
}

// held returns the grants that are active.
func (v *verifier) held() []*Grant {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []*Grant
	for _, g := range v.grants {
		if g.phase == active {
			all = append(all, g)
		}
	}
	return all
}

// read reads the keys of grants, and loses those whose keys are not as they were written. It returns
// the revision at which each batch of keyBatch was read. A key that is gone may mean that etcd was
// restored from a backup, if contact has broken since it was last seen, and etcd's history lacks it.
func (v *verifier) read(ctx context.Context, grants []*Grant, broken bool) (revisions []int64, err error) {
	for batch := range slices.Chunk(grants, keyBatch) {
		known := v.life.Present()
		ops := make([]clientv3.Op, len(batch))
		for n, g := range batch {
			ops[n] = clientv3.OpGet(g.key)
		}
		sent := lease.Uptime()
		reading, cancel := context.WithTimeout(ctx, callTimeout)
		r, err := v.client.Txn(reading).Then(ops...).Commit()
		cancel()
		if err != nil {
			return nil, fmt.Errorf("read the keys of %d locks and claims: %w", len(batch), err)
		}
		if err := known.Check(r.Header); err != nil {
			return nil, err
		}
		for n, g := range batch {
			var found *mvccpb.KeyValue
			if kvs := r.Responses[n].GetResponseRange().Kvs; len(kvs) > 0 {
				found = kvs[0]
			}
			gone := v.compare(g, found, sent)
			if gone && (broken || g.seen) && !v.wasWritten(ctx, g) {
				v.life.Block()
			}
		}
		revisions = append(revisions, r.Header.Revision)
	}
	return revisions, nil
}

// wasWritten reports whether etcd has the key of a grant at the revision at which it was created. Then
// somebody has deleted it since, and etcd was not restored from a backup that is older than the grant.
func (v *verifier) wasWritten(ctx context.Context, g *Grant) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := v.client.Get(ctx, g.key, clientv3.WithRev(g.created))
	if err != nil || len(r.Kvs) == 0 { // compacted, or a revision to come: it is not known
		return false
	}
	var owner KeyOwner
	return r.Kvs[0].CreateRevision == g.created && json.Unmarshal(r.Kvs[0].Value, &owner) == nil && owner.ID == g.id
}

// compare loses a grant whose key is not as it was written, and reports whether the key is gone. kv
// is the key, or nil, as etcd had it at an uptime.
func (v *verifier) compare(g *Grant, kv *mvccpb.KeyValue, at time.Duration) (gone bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var owner KeyOwner
	switch {
	case g.phase != active:
		return false
	case kv == nil:
		v.expireGrant(g, g.lostBecause("its key is gone from etcd"))
		return true
	case kv.CreateRevision < g.created:
		v.life.Disprove("the key of a lock or claim is there in an older state")
		v.expireGrant(g, g.lostBecause("etcd was restored from a backup"))
		return true
	case kv.CreateRevision > g.created, kv.Lease != int64(g.lease), json.Unmarshal(kv.Value, &owner) != nil, owner.ID != g.id:
		v.expireGrant(g, g.lostBecause("its key in etcd was overwritten"))
	case owner.Broken != nil:
		v.expireGrant(g, g.brokenBy(*owner.Broken))
	default:
		g.seenAt = max(g.seenAt, at)
	}
	return false
}

// watchNew watches the keys of the grants that have lasted for watchDelay, and no longer those of
// grants that have ended. Without grants it closes the stream after a while.
func (v *verifier) watchNew(ctx context.Context, now time.Duration) error {
	v.unwatchEnded()
	grants := v.unwatched(now)
	if len(v.watched)+len(grants) > 0 {
		v.usedAt = now
	}
	switch {
	case v.stream != nil && now >= v.usedAt+verifyInterval:
		v.closeStream()
		return nil
	case len(grants) == 0:
		return nil
	case v.stream == nil:
		s, err := etcd.OpenWatch(ctx, v.client.ActiveConnection())
		if err != nil {
			return err
		}
		v.stream = s
	}
	revisions, err := v.read(ctx, grants, false)
	for n, g := range grants[:min(len(grants), len(revisions)*keyBatch)] {
		v.lastID++
		v.watched[v.lastID] = g
		g.watch, g.seen = v.lastID, true
		v.stream.Watch(v.lastID, g.key, "", revisions[n/keyBatch])
	}
	return err
}

// unwatched returns the active grants that are to be watched, and are not.
func (v *verifier) unwatched(now time.Duration) []*Grant {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []*Grant
	for _, g := range v.grants {
		if g.phase == active && now >= g.activated+watchDelay && g.watch == 0 {
			all = append(all, g)
		}
	}
	return all
}

// unwatchEnded ends the watches of grants that have ended.
func (v *verifier) unwatchEnded() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, g := range v.watched {
		if g.phase != active {
			v.stream.Cancel(id)
			delete(v.watched, id)
		}
	}
}

// handle handles a response of the stream, or its end.
func (v *verifier) handle(r *pb.WatchResponse, ok bool) {
	if !ok || r.Canceled && v.watched[r.WatchId] != nil { // canceled: compacted, or refused
		v.closeStream()
		return
	}
	g := v.watched[r.WatchId]
	if g == nil {
		return
	}
	for _, e := range r.Events {
		if e.Type == mvccpb.DELETE {
			v.compare(g, nil, 0)
		} else {
			v.compare(g, e.Kv, 0)
		}
	}
}

// closeStream ends all watches.
func (v *verifier) closeStream() {
	if v.stream != nil {
		v.stream.Close()
	}
	for _, g := range v.watched {
		g.watch = 0
	}
	v.stream, v.watched = nil, map[int64]*Grant{}
}
