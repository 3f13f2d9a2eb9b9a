package reflector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/etcd"
	"disc/discovery/retry"
)

// WatchTimeout is how long etcd may take to answer a watch before the reflector abandons it.
const WatchTimeout = etcd.WatchTimeout

// The ids of watches on a stream: the epoch's, followed by one for each range. etcd uses
// allWatches in a response for all of them.
const (
	allWatches = -1
	epochWatch = 1
)

// watch applies the changes after the store's revision until the stream ends, and returns
// the reason.
func (r *Reflector) watch(ctx context.Context, healthy func()) error {
	var background sync.WaitGroup
	defer background.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := etcd.OpenWatch(ctx, r.conn)
	if err != nil {
		return err
	}
	defer s.Close()
	r.startWatches(s)
	r.lastConfirmation, r.answered = confirmation{at: r.confirmed, identity: r.identity}, false
	background.Go(func() { cancel(r.confirmLoop(ctx, healthy)) })
	checkOrder := sync.OnceFunc(func() { background.Go(func() { r.checkOrder(ctx) }) })
	err = retry.CauseOf(ctx, r.consume(s, healthy, checkOrder))
	if errors.Is(err, errMissed) {
		r.spellings[r.endpoint]++
	}
	return err
}

// startWatches starts the watches of all ranges. The epoch's watch reports progress even
// when there is no range.
func (r *Reflector) startWatches(s *etcd.WatchStream) {
	r.stream, r.watches, r.lastID, r.progress, r.proofs = s, map[int64]*watchedRange{}, epochWatch, streamProgress{}, nil
	r.compareAt = nextComparison()
	s.Watch(epochWatch, r.options.Epoch, "", r.epochRevision)
	for _, w := range r.ranges {
		r.startWatch(w)
	}
}

// consume handles the stream's responses and the calls of [Reflector.Do] and
// [Reflector.RequestProgress] until the stream ends. All changes of the store while it is watched are made from here.
func (r *Reflector) consume(s *etcd.WatchStream, healthy, checkOrder func()) error {
	for {
		r.options.Heartbeat.End()
		select {
		case resp, ok := <-s.Responses():
			if !ok {
				return s.Err()
			}
			r.options.Heartbeat.Begin()
			if err := r.handle(s.Drain(resp)); err != nil {
				return err
			}
			r.answered = true
			if !resp.Created {
				healthy()
			}
		case call := <-r.calls:
			r.options.Heartbeat.Begin()
			call()
		case <-r.progressWanted:
			r.demandProgress(checkOrder)
		}
	}
}

// handle applies the new events of responses, and confirms the store if it has everything.
func (r *Reflector) handle(responses []*pb.WatchResponse) error {
	var events []*clientv3.Event
	var reached int64          // revision that all watches have reached
	apart := len(r.ranges) > 1 // also where one watch now takes the place of the others
	for _, resp := range responses {
		if r.isStopped(resp.WatchId) {
			continue
		}
		if err := r.checkResponse(resp); err != nil {
			return err
		}
		if w, ok := r.watches[resp.WatchId]; ok && resp.Created {
			w.createdAt = resp.Header.Revision
			r.setWatched(r.endpoint, resp.Header.MemberId)
		}
		var err error
		if events, err = r.appendNew(events, resp); err != nil {
			return err
		}
		if resp.WatchId == allWatches { // no watch has events left to send
			reached = resp.Header.Revision
			r.progressed(reached)
		}
	}
	if len(events) == 0 && !r.laggingSince.IsZero() {
		r.setError(errors.New("the watched member of etcd lags behind the others"))
		return nil
	}
	r.setError(nil)
	if len(events) > 0 && len(r.ranges) == 1 { // no other range can lag behind
		reached = max(reached, events[len(events)-1].Kv.ModRevision)
	}
	if r.proxied() { // what the watches have reached is known without progress
		reached = r.lastConfirmation.identity.Revision
	}
	if confirmed := r.confirm(reached); confirmed || len(events) > 0 {
		r.apply(events, apart, confirmed)
	}
	if len(r.proofs) > 0 {
		r.settle()
	}
	return nil
}

// apply applies events to the store, in the order of their revisions. confirmed reports that
// the store then has all that the last confirmation showed.
func (r *Reflector) apply(events []*clientv3.Event, apart, confirmed bool) {
	slices.SortStableFunc(events, func(a, b *clientv3.Event) int { return cmp.Compare(a.Kv.ModRevision, b.Kv.ModRevision) })
	if len(events) > 0 {
		// Do not use the revision of a response without events: etcd before 3.4.25 could
		// send one ahead of events (etcd-io/etcd#15220).
		r.identity.Revision = max(r.identity.Revision, events[len(events)-1].Kv.ModRevision)
	}
	u := Update{Events: events, Apart: apart, Revision: r.identity.Revision, Confirmed: r.confirmed, Epoch: r.identity.Epoch}
	u.Progress, u.Behind = r.takeProgress()
	if confirmed {
		u.ConfirmedRevision = r.lastConfirmation.identity.Revision
	}
	r.store.Apply(u)
}

// appendNew appends the events of a response that the store does not have. The first
// response of a watch repeats writes that the list had.
func (r *Reflector) appendNew(events []*clientv3.Event, resp *pb.WatchResponse) ([]*clientv3.Event, error) {
	w := r.watches[resp.WatchId]
	for _, e := range resp.Events {
		switch {
		case w == nil && r.identity.Epoch == "":
			r.identity.Epoch = string(e.Kv.Value) // another process has made the first epoch
		case w == nil && string(e.Kv.Value) != r.identity.Epoch:
			return nil, errors.New("watch: the epoch of etcd has changed")
		case w != nil && e.Kv.ModRevision > w.revision:
			w.count(e)
			if !w.alreadyDelivered(e.Kv) && !w.inNested(e.Kv.Key) {
				events = append(events, e)
			}
		}
	}
	if w != nil && len(resp.Events) > 0 {
		last := resp.Events[len(resp.Events)-1].Kv.ModRevision
		if r.proxied() {
			w.noteHeader(resp.Header.GetRevision(), last)
		}
		w.revision = max(w.revision, last)
		w.pruneDelivered()
	}
	return events, nil
}

// isStopped reports whether a watch was stopped, so that its responses are to be ignored.
func (r *Reflector) isStopped(id int64) bool {
	_, ok := r.watches[id]
	return !ok && id != allWatches && id != epochWatch
}

// checkResponse returns an error if a response cannot be trusted. A member may lag behind
// the list for up to WatchTimeout; after that, etcd has lost what the list showed.
func (r *Reflector) checkResponse(resp *pb.WatchResponse) error {
	reached := r.identity.Revision
	if w, ok := r.watches[resp.WatchId]; ok {
		reached = w.revision
	}
	if resp.Canceled && r.proxied() {
		r.spellings[r.endpoint]++ // the proxy may go on to give out the watch that has ended
	}
	switch at := resp.Header.GetRevision(); {
	case resp.Canceled && resp.CompactRevision != 0:
		return fmt.Errorf("watch: revision %d is compacted", reached+1)
	case resp.Canceled:
		return fmt.Errorf("watch: canceled by etcd: %s", resp.CancelReason)
	case r.proxied() && resp.Header.GetClusterId() == 0:
		return nil // of a watch that others have already
	case resp.Header.GetClusterId() != r.identity.Cluster:
		return fmt.Errorf("watch: the cluster id was %x and is %x: another etcd answers", r.identity.Cluster, resp.Header.GetClusterId())
	case at >= reached || r.proxied(): // a proxy's header may be older than what the ranges have shown
		r.laggingSince = time.Time{}
	case r.laggingSince.IsZero():
		r.laggingSince = time.Now()
	case time.Since(r.laggingSince) > WatchTimeout:
		return fmt.Errorf("watch: etcd's revision went back from %d to %d: it was wiped or restored", reached, at)
	}
	return nil
}
