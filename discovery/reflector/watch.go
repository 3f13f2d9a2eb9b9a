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
	s, err := f.open(ctx)
	if err != nil {
		return err
	}
	beside.Go(s.receive)
	beside.Go(func() { s.transmit(ctx) })
	defer s.close()
	f.watchAll(s)
	f.proof, f.answered = freshness{at: f.confirmed, life: f.life}, false
	beside.Go(func() { cancel(f.keepProving(ctx, s)) })
	return CauseOf(ctx, f.consume(s, steady))
}

// watchAll starts the watches. With that of the epoch there is always one, which can
// tell of progress.
func (f *Reflector) watchAll(s *watchStream) {
	f.stream, f.watches, f.lastID = s, map[int64]*followed{}, epochWatch
	s.watch(epochWatch, Range{From: f.options.Epoch}, f.asked)
	for _, w := range f.ranges {
		f.start(w)
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
				return watchEnded(s.err)
			}
			f.options.Heartbeat.Begin()
			if err := f.take(s.drain(r)); err != nil {
				return err
			}
			f.answered = true
			if !r.Created {
				steady()
			}
		case what := <-f.do:
			f.options.Heartbeat.Begin()
			what()
		}
	}
}

// take tells the mirror what responses bring, and whether that is all there is.
func (f *Reflector) take(responses []*pb.WatchResponse) error {
	var events []*clientv3.Event
	var reached int64 // all watches have
	for _, r := range responses {
		if f.ended(r.WatchId) {
			continue
		}
		if err := f.check(r); err != nil {
			return err
		}
		var err error
		if events, err = f.news(events, r); err != nil {
			return err
		}
		if r.WatchId == allWatches { // none of them has anything to tell
			reached = r.Header.Revision
			f.settle(reached)
		}
	}
	if len(events) == 0 && !f.behind.IsZero() {
		f.setTrouble(errors.New("the member of etcd that is watched lags behind the others"))
		return nil
	}
	f.setTrouble(nil)
	if len(events) > 0 && len(f.ranges) == 1 { // nothing else is followed that could lag behind
		reached = max(reached, events[len(events)-1].Kv.ModRevision)
	}
	if confirmed := f.confirm(reached); confirmed || len(events) > 0 {
		f.tell(events)
	}
	return nil
}

// tell has the mirror apply events.
func (f *Reflector) tell(events []*clientv3.Event) {
	slices.SortStableFunc(events, func(a, b *clientv3.Event) int { return cmp.Compare(a.Kv.ModRevision, b.Kv.ModRevision) })
	if len(events) > 0 {
		// The revision of an answer without events is not taken over: etcd before 3.4.25
		// could send one ahead of events (etcd-io/etcd#15220).
		f.life.Revision = max(f.life.Revision, events[len(events)-1].Kv.ModRevision)
	}
	f.mirror.Apply(Update{Events: events, Revision: f.life.Revision, Confirmed: f.confirmed, Epoch: f.life.epoch})
}

// news adds the events of a response that the mirror does not have. The first answer of
// a watch has what the list had.
func (f *Reflector) news(events []*clientv3.Event, r *pb.WatchResponse) ([]*clientv3.Event, error) {
	of := f.watches[r.WatchId]
	for _, e := range r.Events {
		switch {
		case of == nil && f.life.epoch == "":
			f.life.epoch = string(e.Kv.Value) // somebody has given this life its name
		case of == nil && string(e.Kv.Value) != f.life.epoch:
			return nil, errors.New("watch: the epoch of etcd has changed")
		case of != nil && e.Kv.ModRevision > of.revision && !of.known(e.Kv) && !of.foreign(e.Kv.Key):
			events = append(events, (*clientv3.Event)(e))
		}
	}
	if of != nil && len(r.Events) > 0 {
		of.revision = max(of.revision, r.Events[len(r.Events)-1].Kv.ModRevision)
		of.forget()
	}
	return events, nil
}

// ended reports whether a watch has been stopped, and what still comes of it is not
// news.
func (f *Reflector) ended(id int64) bool {
	_, ok := f.watches[id]
	return !ok && id != allWatches && id != epochWatch
}

// check returns why a response cannot be trusted. A member that lags behind the list
// is given a moment; longer, its etcd has lost what the list showed.
func (f *Reflector) check(r *pb.WatchResponse) error {
	reached := f.life.Revision
	if of, ok := f.watches[r.WatchId]; ok {
		reached = of.revision
	}
	switch at := r.Header.GetRevision(); {
	case r.Canceled && r.CompactRevision != 0:
		return fmt.Errorf("watch: revision %d is compacted", reached+1)
	case r.Canceled:
		return fmt.Errorf("watch: etcd canceled it: %s", r.CancelReason)
	case r.Header.GetClusterId() != f.life.Cluster:
		return fmt.Errorf("watch: the cluster id was %x and is %x: another etcd answers", f.life.Cluster, r.Header.GetClusterId())
	case at >= reached:
		f.behind = time.Time{}
	case f.behind.IsZero():
		f.behind = time.Now()
	case time.Since(f.behind) > WatchTimeout:
		return fmt.Errorf("watch: etcd's revision went back from %d to %d: it was wiped or restored", reached, at)
	}
	return nil
}
