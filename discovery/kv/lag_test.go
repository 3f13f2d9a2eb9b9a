package kv

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// directory has one key, which is written to again and again.
type directory struct {
	name string
	last atomic.Int64 // revision, once no more is written
}

// Each directory has its own watch, and one may lag behind another. Through cuts, after
// which each is compared with etcd by itself, and through wider ranges that replace others,
// a reader sees every write whose revision it knows, and a watcher misses no event.
func TestDirectoriesLag(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{IdleTimeout: time.Second})
	writer := etcdtest.Must(New(f.etcd, discovery.NewKeys("test"), Options{}))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	for n := range 6 {
		d := &directory{name: fmt.Sprintf("d%d/", n)}
		running.Go(func() { f.writeAndRead(ctx, writer, d) })
		running.Go(func() { f.watch(d) })
	}
	running.Go(func() {
		for begun := time.Now(); ctx.Err() == nil; { // cache everything from time to time
			items, fresh, err := f.List(ctx, "", Read{}) // may fail because of a cut
			if err != nil {
				continue
			}
			for i := range items {
				if i.Revision > fresh.Revision {
					f.t.Errorf("a list of revision %d has %s of %d", fresh.Revision, i.Key, i.Revision)
				}
			}
			if time.Since(begun) > time.Second {
				<-time.After(1500 * time.Millisecond)
				begun = time.Now()
			}
		}
	})
	for ctx.Err() == nil {
		<-time.After(100 * time.Millisecond)
		link.Cut()
	}
}

// writeAndRead writes into a directory, and reads what it has written, until ctx ends.
func (f *fixture) writeAndRead(ctx context.Context, writer *Store, d *directory) {
	var last int64
	for n := 1; ctx.Err() == nil; n++ {
		revision, err := writer.Write(f.t.Context(), Op{Key: d.name + "k", Value: []byte(strconv.Itoa(n))})
		if err != nil {
			f.t.Error(err)
			continue
		}
		last = revision
		i, fresh, err := f.Get(ctx, d.name+"k", Read{MinRevision: revision})
		if err == nil && (i.Revision != revision || fresh.Revision < revision) { // it has no other writer
			f.t.Errorf("%s was written at revision %d, and the answer of revision %d has that of %d", d.name, revision, fresh.Revision, i.Revision)
		}
	}
	d.last.Store(last)
}

// watch reads the changes of a directory as a watcher does, until it has seen the last.
func (f *fixture) watch(d *directory) {
	var at discovery.Cursor
	var known int64
	for late := time.After(time.Minute); known == 0 || known != d.last.Load(); {
		changed := f.Changed()
		events, upTo, ok := f.Events(d.name, at)
		for _, e := range events {
			if e.Revision <= known || e.Revision <= at.Revision || e.Revision > upTo.Revision {
				f.t.Errorf("%s: an event of revision %d after one of %d, from %d up to %d", d.name, e.Revision, known, at.Revision, upTo.Revision)
			}
			known = e.Revision
		}
		at = upTo
		if !ok {
			i, fresh, err := f.Get(f.t.Context(), d.name+"k", Read{})
			if err == nil {
				at, known = discovery.Cursor{Epoch: fresh.Epoch, Revision: fresh.Revision}, i.Revision
			}
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		case <-late:
			f.t.Errorf("%s: the last event is of revision %d, and the last write of %d", d.name, known, d.last.Load())
			return
		}
	}
}
