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
)

// WatchTimeout is how long etcd may take to answer a watch before that is given up.
const WatchTimeout = 5 * time.Second

// The ids of watches on a stream: one of the epoch, then one of each range. etcd answers
// for all of them at once with allWatches.
const (
	allWatches = -1
	epochWatch = 1
)

// watch follows the changes after the mirror until the stream ends, with the reason.
func (f *Reflector) watch(ctx context.Context, steady func()) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := f.openStream(ctx)
	if err != nil {
		return err
	}
	beside.Go(s.receive)
	beside.Go(func() { s.transmit(ctx) })
	defer s.close()
	f.startWatches(s)
	f.freshness, f.answered = freshness{at: f.confirmed, identity: f.identity}, false
	beside.Go(func() { cancel(f.confirmLoop(ctx, s)) })
	return CauseOf(ctx, f.consume(s, steady))
}

// startWatches starts the watches. With that of the epoch there is always one, which can
// tell of progress.
func (f *Reflector) startWatches(s *watchStream) {
	f.stream, f.watches, f.lastID = s, map[int64]*watchedRange{}, epochWatch
	s.watch(epochWatch, Range{From: f.options.Epoch}, f.epochRevision)
	for _, w := range f.ranges {
		f.startWatch(w)
	}
}

// consume takes what the stream brings, and does what it is given to do, until the
// stream ends. Every event goes through here: there is nothing else that it waits for.
func (f *Reflector) consume(s *watchStream, steady func()) error {
	for {
		f.options.Heartbeat.End()
		select {
		case r, ok := <-s.responses:
			if !ok {
				return streamError(s.err)
			}
			f.options.Heartbeat.Begin()
			if err := f.handle(s.drain(r)); err != nil {
				return err
			}
			f.answered = true
			if !r.Created {
				steady()
			}
		case what := <-f.calls:
			f.options.Heartbeat.Begin()
			what()
		}
	}
}

// handle tells the mirror what responses bring, and whether that is all there is.
func (f *Reflector) handle(responses []*pb.WatchResponse) error {
	var events []*clientv3.Event
	var reached int64 // all watches have
	for _, r := range responses {
		if f.isStopped(r.WatchId) {
			continue
		}
		if err := f.checkResponse(r); err != nil {
			return err
		}
		var err error
		if events, err = f.appendNew(events, r); err != nil {
			return err
		}
		if r.WatchId == allWatches { // none of them has anything to tell
			reached = r.Header.Revision
			f.replaceNested(reached)
		}
	}
	if len(events) == 0 && !f.laggingSince.IsZero() {
		f.setError(errors.New("the member of etcd that is watched lags behind the others"))
		return nil
	}
	f.setError(nil)
	if len(events) > 0 && len(f.ranges) == 1 { // nothing else is followed that could lag behind
		reached = max(reached, events[len(events)-1].Kv.ModRevision)
	}
	if confirmed := f.confirm(reached); confirmed || len(events) > 0 {
		f.apply(events)
	}
	return nil
}

// apply has the mirror apply events.
func (f *Reflector) apply(events []*clientv3.Event) {
	slices.SortStableFunc(events, func(a, b *clientv3.Event) int { return cmp.Compare(a.Kv.ModRevision, b.Kv.ModRevision) })
	if len(events) > 0 {
		// The revision of an answer without events is not taken over: etcd before 3.4.25
		// could send one ahead of events (etcd-io/etcd#15220).
		f.identity.Revision = max(f.identity.Revision, events[len(events)-1].Kv.ModRevision)
	}
	f.store.Apply(Update{Events: events, Revision: f.identity.Revision, Confirmed: f.confirmed, Epoch: f.identity.epoch})
}

// appendNew adds the events of a response that the mirror does not have. The first answer of
// a watch has what the list had.
func (f *Reflector) appendNew(events []*clientv3.Event, r *pb.WatchResponse) ([]*clientv3.Event, error) {
	of := f.watches[r.WatchId]
	for _, e := range r.Events {
		switch {
		case of == nil && f.identity.epoch == "":
			f.identity.epoch = string(e.Kv.Value) // somebody has given this life its name
		case of == nil && string(e.Kv.Value) != f.identity.epoch:
			return nil, errors.New("watch: the epoch of etcd has changed")
		case of != nil && e.Kv.ModRevision > of.revision && !of.alreadyDelivered(e.Kv) && !of.inNested(e.Kv.Key):
			events = append(events, (*clientv3.Event)(e))
		}
	}
	if of != nil && len(r.Events) > 0 {
		of.revision = max(of.revision, r.Events[len(r.Events)-1].Kv.ModRevision)
		of.pruneDelivered()
	}
	return events, nil
}

// isStopped reports whether a watch has been stopped, and what still comes of it is not
// news.
func (f *Reflector) isStopped(id int64) bool {
	_, ok := f.watches[id]
	return !ok && id != allWatches && id != epochWatch
}

// checkResponse returns why a response cannot be trusted. A member that lags behind the list
// is given a moment; longer, its etcd has lost what the list showed.
func (f *Reflector) checkResponse(r *pb.WatchResponse) error {
	reached := f.identity.Revision
	if of, ok := f.watches[r.WatchId]; ok {
		reached = of.revision
	}
	switch at := r.Header.GetRevision(); {
	case r.Canceled && r.CompactRevision != 0:
		return fmt.Errorf("watch: revision %d is compacted", reached+1)
	case r.Canceled:
		return fmt.Errorf("watch: etcd canceled it: %s", r.CancelReason)
	case r.Header.GetClusterId() != f.identity.Cluster:
		return fmt.Errorf("watch: the cluster id was %x and is %x: another etcd answers", f.identity.Cluster, r.Header.GetClusterId())
	case at >= reached:
		f.laggingSince = time.Time{}
	case f.laggingSince.IsZero():
		f.laggingSince = time.Now()
	case time.Since(f.laggingSince) > WatchTimeout:
		return fmt.Errorf("watch: etcd's revision went back from %d to %d: it was wiped or restored", reached, at)
	}
	return nil
}
