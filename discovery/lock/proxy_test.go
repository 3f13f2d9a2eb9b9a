package lock_test

import (
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
)

// watchOn opens a stream with a watch of a key, from a revision.
func watchOn(t *testing.T, endpoint, key string, revision int64) *etcd.WatchStream {
	t.Helper()
	s := etcdtest.Must(etcd.OpenWatch(t.Context(), etcdtest.Client(t, endpoint).ActiveConnection()))
	t.Cleanup(s.Close)
	s.Watch(1, key, "", revision)
	<-s.Responses()
	return s
}

// Behind a proxy, whose watches may miss changes, the keys of grants are read more often.
func TestVerifiedBehindProxy(t *testing.T) {
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		server := etcdtest.Start(t)
		quarantine(t, server.Endpoint(), 10*time.Minute)
		proxy := etcdtest.StartProxy(t, program, server.Endpoint())
		a := locktest.Start(t, "a", locktest.LongTTL, proxy.Endpoint())
		if d := a.IntervalOver(watchOn(t, server.Endpoint(), "x", 1)); d <= lock.ProxiedInterval {
			t.Errorf("every %v without a proxy", d)
		}
		if d := a.IntervalOver(watchOn(t, proxy.Endpoint(), "x", 1)); d > lock.ProxiedInterval {
			t.Errorf("every %v behind a proxy", d)
		}
	})
}

// Who breaks a lock behind a proxy that does not notice that the key goes does not wait for ever.
func TestBreakageBehindProxy(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	link := etcdtest.StartLink(t, server.Endpoint())
	proxy := etcdtest.StartProxy(t, etcdtest.Bundled, link.Endpoint())
	a := locktest.Start(t, "a", locktest.LongTTL, server.Endpoint())
	ctx, through := etcdtest.Context(t), etcdtest.Client(t, proxy.Endpoint())
	g := a.MustLock("x", lock.Request{})
	key := locktest.Keys().Lock("x") + g.ID()

	// The proxy goes on to give out a watch that etcd has canceled, because it misses what etcd has
	// compacted, as long as a client keeps it.
	ended := watchOn(t, proxy.Endpoint(), key, 1)
	link.Freeze()
	etcdtest.Must(a.Client.Put(ctx, "elsewhere", "")) // the watch has reached what is before it
	put := etcdtest.Must(a.Client.Put(ctx, "elsewhere", ""))
	etcdtest.Must(a.Client.Compact(ctx, put.Header.Revision))
	link.Cut()
	link.Mend()
	for canceled := false; !canceled; {
		select {
		case r, ok := <-ended.Responses():
			canceled = !ok || r.Canceled
		case <-ctx.Done():
			t.Fatal("the watch goes on, though etcd has compacted what it misses")
		}
	}
	b := etcdtest.Must(lock.Break(ctx, a.Client, locktest.Keys(), "x", lock.BreakRequest{By: "ada"}))
	waited := make(chan error, 1)
	go func() { waited <- b.Await(ctx, through) }()
	<-time.After(time.Second) // its watch is most likely there
	etcdtest.Must(a.Client.Delete(ctx, key))
	if err := <-waited; err != nil {
		t.Error(err)
	}
}
