package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/life"
	"disc/discovery/retry"
)

// watchTimeout is the time after which a waiter reads the queue again even if its watch has
// shown nothing, in case the watch is broken.
const watchTimeout = 10 * time.Second

// record is the value of a lock's key, for operators and for other waiters.
type record struct {
	KeyOwner
	Node   string    `json:"node,omitempty"`
	Shared int       `json:"shared"`
	Asked  time.Time `json:"asked"`
}

// waiter is a caller in the queue of a lock. The queue is the lock's keys, ordered by create
// revision; the first keys, as many as may share the lock, hold it.
type waiter struct {
	*Grant
	prefix string // of the queue's keys
	joined bool   // etcd has the waiter's key

	joinedIn life.Guard // of the transaction that wrote the key
}

// errWaitOver is the cause of a context that ends with a waiter's time.
var errWaitOver = errors.New("the wait is over")

// errStartedOver is returned when etcd has started over since the waiter joined the queue.
var errStartedOver = errors.New("etcd has started over")

// acquire joins the queue and waits until the waiter has the lock. When etcd starts over meanwhile,
// it joins the new queue.
func (w *waiter) acquire(ctx context.Context, wait time.Duration) error {
	for deadline := time.Now().Add(wait); ; {
		err := w.acquireOnce(ctx, deadline)
		if !errors.Is(err, errStartedOver) || ctx.Err() != nil {
			return err
		}
		w.leave(ctx)
	}
}

func (w *waiter) acquireOnce(ctx context.Context, deadline time.Time) error {
	waiting, cancel := context.WithDeadlineCause(ctx, deadline, errWaitOver)
	defer cancel()
	joining, cancel := context.WithTimeout(ctx, max(time.Until(deadline), callTimeout))
	defer cancel()
	acquired, err := w.join(joining)
	switch {
	case err != nil:
		return err
	case !acquired && waiting.Err() != nil:
		return context.Cause(waiting)
	case !acquired:
		return w.await(waiting)
	}
	if err = w.manager.activate(joining, w.Grant); life.Uncertain(err) {
		return w.await(joining)
	}
	return err
}

// join puts the waiter's key into the queue, and reports whether the waiter has the lock.
// The key is unique to the waiter, so that join can repeat an attempt that was not answered.
func (w *waiter) join(ctx context.Context) (acquired bool, err error) {
	asked := time.Now().UTC()
	own := clientv3.OpGet(w.key, clientv3.WithKeysOnly())
	first := clientv3.OpGet(w.prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(int64(w.shared)))
	r, err := w.callUntilAnswered(ctx, func() (*clientv3.TxnResponse, error) {
		return w.transact(ctx, func(base int64) clientv3.Op {
			value := EncodeRecord(record{KeyOwner{ID: w.id, Base: base}, w.manager.node, w.shared, asked})
			put := clientv3.OpPut(w.key, value, clientv3.WithLease(w.lease))
			return clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(w.key), "=", 0)},
				[]clientv3.Op{put, own, first}, []clientv3.Op{own, first})
		})
	})
	if err != nil {
		return false, err
	}
	if w.joined && !r.Succeeded && !w.joinedIn.Same(w.guard) {
		return false, errStartedOver // the key is one of an earlier life
	}
	answers := r.Responses[len(r.Responses)-2:] // of own and first
	w.joined, w.joinedIn = true, w.guard
	w.manager.mu.Lock()
	w.created = answers[0].GetResponseRange().Kvs[0].CreateRevision
	w.manager.mu.Unlock()
	w.manager.noteMarks(answers[1].GetResponseRange().Kvs)
	for _, kv := range answers[1].GetResponseRange().Kvs {
		if string(kv.Key) == w.key {
			return true, nil
		}
		var other record
		if err := json.Unmarshal(kv.Value, &other); err == nil && other.Shared != w.shared {
			return false, discovery.Errorf(discovery.ErrConflict, "lock %q is shared by %d at the moment, not by %d; all callers must ask for the same number", w.name, other.Shared, w.shared)
		}
	}
	return false, nil
}

// callUntilAnswered repeats a call until etcd answers it and goes on, the session is lost or ctx
// ends. It then returns why nothing could be granted so far, which the last attempt does not know if
// ctx has ended in it.
func (w *waiter) callUntilAnswered(ctx context.Context, call func() (*clientv3.TxnResponse, error)) (*clientv3.TxnResponse, error) {
	var why error
	for backoff := (retry.Backoff{}); ; {
		r, err := call()
		if ctx.Err() == nil || why == nil || life.Uncertain(err) {
			why = err
		}
		switch {
		case err == nil:
			return r, nil
		case life.Uncertain(err):
		case errors.Is(err, discovery.ErrUnavailable):
			return nil, err // the session is lost
		case etcd.Refused(err).Final():
			return nil, fmt.Errorf("lock %q: %w", w.name, err)
		}
		backoff.Failed()
		select {
		case <-w.lost:
			return nil, w.Err()
		default:
		}
		if backoff.Wait(ctx) != nil {
			return nil, fmt.Errorf("lock %q: %w", w.name, why)
		}
	}
}

// await waits until fewer waiters and holders are ahead than may share the lock, and activates the
// grant.
func (w *waiter) await(ctx context.Context) error {
	var backoff retry.Backoff
	for {
		r, err := w.callUntilAnswered(ctx, func() (*clientv3.TxnResponse, error) { return w.readAhead(ctx) })
		if err != nil {
			return reasonOf(ctx, err)
		}
		if err := w.Err(); err != nil {
			return err
		}
		if !w.joinedIn.Same(w.guard) {
			return errStartedOver
		}
		own, before := r.Responses[0].GetResponseRange().Kvs, r.Responses[1].GetResponseRange().Kvs
		if len(own) == 0 || own[0].CreateRevision != w.created {
			return w.verifySession()
		}
		w.manager.noteMarks(before)
		ahead := map[string]bool{}
		for _, kv := range before {
			ahead[string(kv.Key)] = true
		}
		if len(ahead) < w.shared {
			if err = w.manager.activate(ctx, w.Grant); !life.Uncertain(err) {
				return err
			}
		} else {
			err = w.watchAhead(ctx, ahead, r.Header.Revision)
		}
		switch {
		case err == nil:
			backoff.Reset()
		case w.Err() != nil:
			return w.Err()
		case ctx.Err() != nil:
			return reasonOf(ctx, err)
		default:
			backoff.Failed()
			if backoff.Wait(ctx) != nil {
				return reasonOf(ctx, err)
			}
		}
	}
}

// reasonOf returns why a waiter has given up: that nothing is granted for the moment, or else the
// cause of the end of ctx.
func reasonOf(ctx context.Context, err error) error {
	if life.Uncertain(err) {
		return err
	}
	return retry.CauseOf(ctx, err)
}

// readAhead reads the waiter's own key and the keys ahead of it: all of them if the lock is
// shared, otherwise the last one, which must go before it is the waiter's turn.
func (w *waiter) readAhead(ctx context.Context) (*clientv3.TxnResponse, error) {
	before := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithMaxCreateRev(w.created - 1)}
	if w.shared == 1 {
		before = append(before, clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(1))
	}
	return w.transact(ctx, func(int64) clientv3.Op {
		return clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpGet(w.key, clientv3.WithKeysOnly()), clientv3.OpGet(w.prefix, before...)}, nil)
	})
}

// watchAhead returns nil when so many of the keys ahead were deleted after revision that the
// waiter may have the lock, or when it is time to read the queue again. For a lock that is
// not shared it watches the one key ahead, and sees at once that it is marked; otherwise it
// watches the deletions in the whole queue.
func (w *waiter) watchAhead(ctx context.Context, ahead map[string]bool, revision int64) error {
	watching, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), watchTimeout)
	defer cancel()
	watcher := clientv3.NewWatcher(w.manager.client)
	defer watcher.Close()
	target, options := w.prefix, []clientv3.OpOption{clientv3.WithRev(revision + 1)}
	if w.shared == 1 {
		for key := range ahead { // there is only one
			target = key
		}
	} else {
		options = append(options, clientv3.WithPrefix(), clientv3.WithFilterPut())
	}
	events := watcher.Watch(watching, target, options...)
	for len(ahead) >= w.shared {
		select {
		case r, ok := <-events:
			if !ok {
				return ctx.Err() // nil after watchTimeout
			}
			if err := r.Err(); err != nil && watching.Err() == nil {
				return fmt.Errorf("lock %q: watch the queue: %w", w.name, err)
			}
			for _, e := range r.Events {
				if e.Type == mvccpb.DELETE {
					delete(ahead, string(e.Kv.Key))
				} else {
					w.manager.noteMarks([]*mvccpb.KeyValue{e.Kv})
				}
			}
		case <-w.lost:
			return w.Err()
		}
	}
	return nil
}

// abandon takes the waiter out of the queue because of err, and returns the error for its
// caller.
func (w *waiter) abandon(ctx context.Context, err error) error {
	lost := w.Err()
	w.manager.forget(w.Grant)
	if !w.joined {
		w.manager.orphans.Notify()
		return err
	}
	holder := w.leave(ctx)
	switch {
	case lost != nil:
		return lost
	case errors.Is(err, errWaitOver):
		return discovery.Errorf(discovery.ErrConflict, "lock %q is held by %s; wait for it, or try again later", w.name, holder)
	}
	return err
}

// leave deletes the waiter's key and returns a description of the lock's first holder.
func (w *waiter) leave(ctx context.Context) (holder string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	first := clientv3.OpGet(w.prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(1))
	r, err := w.call(ctx, func(t clientv3.Txn) clientv3.Txn {
		return t.If(clientv3.Compare(clientv3.CreateRevision(w.key), "=", w.created)).
			Then(first, clientv3.OpDelete(w.key)).Else(first)
	})
	if err != nil {
		w.manager.orphans.Notify()
		return "somebody else"
	}
	var other record
	for _, kv := range r.Responses[0].GetResponseRange().Kvs {
		if string(kv.Key) != w.key && json.Unmarshal(kv.Value, &other) == nil && other.Node != "" {
			return "node " + other.Node
		}
	}
	return "somebody else"
}
