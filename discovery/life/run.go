package life

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery/retry"
)

// checkInterval is the time between two questions whether etcd goes on while contact with it holds: a
// proxy may hide a break.
const checkInterval = 50 * time.Second

// probeTimeout is how long a member may take to answer at all.
const probeTimeout = time.Second

// Run asks etcd whether it goes on whenever contact with it has broken, until ctx ends. It then
// returns nil.
func (l *Life) Run(ctx context.Context) error {
	for outage := false; ; {
		contact, broken := l.session.Contact()
		if l.prove(ctx, contact, outage) != nil {
			return nil // ctx ended
		}
		outage = false
		again := time.NewTimer(checkInterval - rand.N(checkInterval/10))
		select {
		case <-broken:
			outage = !l.probe(ctx)
		case <-l.doubted:
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
}

// prove asks until etcd answers. After an outage, in which no member had answered at all, nothing is
// granted for outageWait; an agent that knew nothing of etcd before waits for nothing.
func (l *Life) prove(ctx context.Context, contact int, outage bool) error {
	knew := l.Present().known.Epoch != ""
	for backoff := (retry.Backoff{}); ; {
		asking, cancel := context.WithTimeout(ctx, callTimeout)
		_, err := l.Check(asking, l.client, Identity{})
		cancel()
		if err == nil {
			l.resume(contact, outage && knew)
			return nil
		}
		outage = outage || !answered(err)
		l.recordFailure(err)
		if backoff.Failed() && ctx.Err() == nil {
			l.log.Warn("cannot find out whether etcd goes on; no lock or claim is granted until then", "failures", backoff.Failures(), "error", err)
		}
		if err := backoff.Wait(ctx); err != nil {
			return err
		}
	}
}

// recordFailure remembers why etcd could not be asked.
func (l *Life) recordFailure(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastErr = err
}

// probe reports whether any member answers at once, even one that has lost the others. It tries once
// more than there are endpoints: a call may meet the connection that has just broken.
func (l *Life) probe(ctx context.Context) bool {
	kv := pb.NewKVClient(l.client.ActiveConnection()) // without the client's retries
	for range len(l.client.Endpoints()) + 1 {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte(l.keys.Epoch()), Serializable: true, KeysOnly: true})
		cancel()
		if answered(err) {
			return true
		}
	}
	return false
}

// answered reports whether the error of a call is an answer of a member.
func answered(err error) bool {
	switch {
	case err == nil || errors.As(rpctypes.Error(err), new(rpctypes.EtcdError)):
		return true
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled): // clientv3's, of a call that hung
		return false
	}
	code := status.Code(err)
	return code != codes.Unavailable && code != codes.DeadlineExceeded && code != codes.Canceled
}

// resume allows grants in a contact in which etcd was seen to go on.
func (l *Life) resume(contact int, outage bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proven, l.lastErr = contact+1, nil
	if outage {
		l.block(outageWait, "no member had answered for a while")
	}
	l.notify()
}
