package claim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/retry"
)

// MaxShared is how many may hold one lock at once.
const MaxShared = 1000

// LockOptions say how a lock is asked for.
type LockOptions struct {
	Wait   time.Duration // how long to wait for it; 0: it is there or not
	TTL    time.Duration // how long it lasts without being renewed; 0: until it is released
	Shared int           // how many may hold it at once, 1 to MaxShared; 0: one
}

func (o LockOptions) validate() error {
	switch {
	case o.Wait < 0 || o.TTL < 0:
		return discovery.Errorf(discovery.ErrInvalid, "a lock's wait and ttl are at least 0")
	case o.Shared < 1 || o.Shared > MaxShared:
		return discovery.Errorf(discovery.ErrInvalid, "a lock is shared by 1 to %d holders, not by %d", MaxShared, o.Shared)
	}
	return nil
}

// lockRecord is the value of a lock's key, for operators and for those who wait.
type lockRecord struct {
	mark
	Node   string    `json:"node,omitempty"`
	Shared int       `json:"shared"`
	Asked  time.Time `json:"asked"`
}

// Lock waits for a lock, behind all who asked before. The errors are ErrInvalid,
// ErrConflict (it is held by somebody else, or shared by another number), ErrUnavailable
// (the agent has no session with etcd, loses it meanwhile, or stops), that of ctx, or what
// etcd says.
func (h *Manager) Lock(ctx context.Context, name string, o LockOptions) (*Grant, error) {
	if o.Shared == 0 {
		o.Shared = 1
	}
	if err := errors.Join(discovery.ValidateLock(name), o.validate()); err != nil {
		return nil, err
	}
	g, err := h.enter(&Grant{kind: KindLock, name: name, ttl: o.TTL, shared: o.Shared})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	g.key = h.keys.Lock(name) + g.id
	h.mu.Unlock()
	c := contender{Grant: g, prefix: h.keys.Lock(name)}
	if err = c.acquire(ctx, o.Wait); err == nil {
		err = h.grant(g)
	}
	if err != nil {
		return nil, c.abandon(ctx, err)
	}
	return g, nil
}

// contender is a caller in a lock's queue.
type contender struct {
	*Grant
	prefix string // of the queue
	joined bool   // etcd has the contender's key
}

// errWaitOver ends the wait for a lock.
var errWaitOver = errors.New("the wait is over")

// acquire joins the queue and waits until the contender has the lock.
func (c *contender) acquire(ctx context.Context, wait time.Duration) error {
	joining, cancel := context.WithTimeout(ctx, max(wait, callTimeout))
	defer cancel()
	over := time.Now().Add(wait)
	held, err := c.join(joining)
	switch {
	case err != nil || held:
		return err
	case wait == 0:
		return errWaitOver
	}
	waiting, cancel := context.WithDeadlineCause(ctx, over, errWaitOver)
	defer cancel()
	return c.await(waiting)
}

// join puts the contender's key into the queue, and reports whether it is among the
// first. The key is the contender's own, so that an attempt which was not answered is
// merely made again.
func (c *contender) join(ctx context.Context) (held bool, err error) {
	value, err := json.Marshal(lockRecord{mark{c.id}, c.holder.node, c.shared, time.Now().UTC()})
	if err != nil {
		return false, fmt.Errorf("lock %q: %w", c.name, err)
	}
	put := clientv3.OpPut(c.key, string(value), clientv3.WithLease(c.lease))
	own := clientv3.OpGet(c.key, clientv3.WithKeysOnly())
	first := clientv3.OpGet(c.prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(int64(c.shared)))
	r, err := c.callUntilAnswered(ctx, func() (*clientv3.TxnResponse, error) {
		return c.holder.transact(ctx, KindLock, func(t clientv3.Txn) clientv3.Txn {
			return t.If(clientv3.Compare(clientv3.CreateRevision(c.key), "=", 0)).Then(put, own, first).Else(own, first)
		})
	})
	if err != nil {
		return false, err
	}
	answers := r.Responses[len(r.Responses)-2:]
	c.joined = true
	c.holder.mu.Lock()
	c.fence = answers[0].GetResponseRange().Kvs[0].CreateRevision
	c.holder.mu.Unlock()
	for _, kv := range answers[1].GetResponseRange().Kvs {
		if string(kv.Key) == c.key {
			return true, nil
		}
		var other lockRecord
		if err := json.Unmarshal(kv.Value, &other); err == nil && other.Shared != c.shared {
			return false, discovery.Errorf(discovery.ErrConflict, "lock %q is shared by %d at the moment, not by %d; all who ask for it must agree on that", c.name, other.Shared, c.shared)
		}
	}
	return false, nil
}

// callUntilAnswered makes a call until etcd answers it, the session is lost or ctx ends.
func (c *contender) callUntilAnswered(ctx context.Context, call func() (*clientv3.TxnResponse, error)) (*clientv3.TxnResponse, error) {
	for retry := (retry.Backoff{}); ; {
		r, err := call()
		if err == nil {
			return r, nil
		}
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			c.holder.session.Verify(c.lease)
			return nil, c.unavailable(sessionLost)
		case refused(err):
			return nil, fmt.Errorf("lock %q: %w", c.name, err)
		}
		retry.Failed()
		select {
		case <-c.lost:
			return nil, c.Err()
		default:
		}
		if retry.Wait(ctx) != nil {
			return nil, fmt.Errorf("lock %q: %w", c.name, err)
		}
	}
}

// await waits until fewer than may hold the lock are ahead of the contender.
func (c *contender) await(ctx context.Context) error {
	var retry retry.Backoff
	for {
		r, err := c.callUntilAnswered(ctx, func() (*clientv3.TxnResponse, error) { return c.readAhead(ctx) })
		if err != nil {
			return cause(ctx, err)
		}
		if err := c.Err(); err != nil {
			return err
		}
		own, before := r.Responses[0].GetResponseRange().Kvs, r.Responses[1].GetResponseRange().Kvs
		if len(own) == 0 || own[0].CreateRevision != c.fence {
			c.holder.session.Verify(c.lease)
			return c.unavailable(sessionLost)
		}
		ahead := map[string]bool{}
		for _, kv := range before {
			ahead[string(kv.Key)] = true
		}
		if len(ahead) < c.shared {
			return nil
		}
		err = c.watchAhead(ctx, ahead, r.Header.Revision)
		switch {
		case err == nil:
			retry.Reset()
		case c.Err() != nil:
			return err
		case ctx.Err() != nil:
			return cause(ctx, err)
		default:
			retry.Failed()
			if retry.Wait(ctx) != nil {
				return cause(ctx, err)
			}
		}
	}
}

// cause is why ctx has ended, if it has, and else err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// readAhead reads the contender's own key, and the keys ahead of it: all of them, or only
// the last where that is all that matters.
func (c *contender) readAhead(ctx context.Context) (*clientv3.TxnResponse, error) {
	before := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithMaxCreateRev(c.fence - 1)}
	if c.shared == 1 {
		before = append(before, clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(1))
	}
	return c.holder.transact(ctx, KindLock, func(t clientv3.Txn) clientv3.Txn {
		return t.Then(clientv3.OpGet(c.key, clientv3.WithKeysOnly()), clientv3.OpGet(c.prefix, before...))
	})
}

// watchTimeout is how long a watch is trusted to be one.
const watchTimeout = 10 * time.Second

// watchAhead returns when so many of those ahead have gone that it is worth to look again,
// and for good measure after a while. Alone, the contender watches the one before it;
// who shares watches all.
func (c *contender) watchAhead(ctx context.Context, ahead map[string]bool, revision int64) error {
	watching, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), watchTimeout)
	defer cancel()
	watcher := clientv3.NewWatcher(c.holder.client)
	defer watcher.Close()
	target, options := c.prefix, []clientv3.OpOption{clientv3.WithRev(revision + 1), clientv3.WithFilterPut()}
	if c.shared == 1 {
		for target = range ahead { // the only one
		}
	} else {
		options = append(options, clientv3.WithPrefix())
	}
	events := watcher.Watch(watching, target, options...)
	for len(ahead) >= c.shared {
		select {
		case r, ok := <-events:
			if !ok {
				return ctx.Err() // nil: it is time to look again
			}
			if err := r.Err(); err != nil && watching.Err() == nil {
				return fmt.Errorf("lock %q: watch those ahead: %w", c.name, err)
			}
			for _, e := range r.Events {
				delete(ahead, string(e.Kv.Key))
			}
		case <-c.lost:
			return c.Err()
		}
	}
	return nil
}

// abandon leaves the queue, and returns the error to be told.
func (c *contender) abandon(ctx context.Context, err error) error {
	lost := c.Err()
	h := c.holder
	h.mu.Lock()
	h.forget(c.Grant)
	h.mu.Unlock()
	if !c.joined {
		signal(h.orphans)
		return err
	}
	ahead := c.leaveQueue(ctx)
	switch {
	case lost != nil:
		return lost
	case errors.Is(err, errWaitOver):
		return discovery.Errorf(discovery.ErrConflict, "lock %q is held by %s; wait for it, or try again later", c.name, ahead)
	}
	return err
}

// leaveQueue takes the contender's key out of the queue, and returns who has the lock.
func (c *contender) leaveQueue(ctx context.Context) (holder string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	first := clientv3.OpGet(c.prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(1))
	r, err := c.holder.transact(ctx, KindLock, func(t clientv3.Txn) clientv3.Txn {
		return t.If(clientv3.Compare(clientv3.CreateRevision(c.key), "=", c.fence)).
			Then(first, clientv3.OpDelete(c.key)).Else(first)
	})
	if err != nil {
		signal(c.holder.orphans)
		return "somebody else"
	}
	var record lockRecord
	for _, kv := range r.Responses[0].GetResponseRange().Kvs {
		if string(kv.Key) != c.key && json.Unmarshal(kv.Value, &record) == nil && record.Node != "" {
			return "node " + record.Node
		}
	}
	return "somebody else"
}
