package kv

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// Keys that are always written together are read together: from the cache, whose directories
// have watches of their own, and from etcd. No answer has a write after its revision, and none
// is older than the one before.
func TestKeysAreReadAtOneRevision(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	writer := etcdtest.Must(New(f.etcd, discovery.NewKeys("test"), Options{}))
	keys := []string{"d1/a", "d2/a", "d1/b", "d1/e/a"}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	write := func(n int) int64 {
		var ops []Op
		for _, key := range keys {
			ops = append(ops, Op{Key: key, Value: []byte(fmt.Sprint(n))})
		}
		revision, err := writer.Write(t.Context(), ops...)
		if err != nil {
			t.Error(err)
		}
		return revision
	}
	last := write(0)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			write(n)
		}
	})
	for name, r := range map[string]Read{"cached": {}, "linearizable": {Linearizable: true}, "at a revision": {MinRevision: last}} {
		running.Go(func() {
			reads, last := 0, int64(0)
			for ; ctx.Err() == nil; reads++ {
				items, fresh, err := f.GetMany(t.Context(), keys, r)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				all := slices.Collect(items)
				for n, i := range all {
					if i.Key != keys[n] || string(i.Value) != string(all[0].Value) || i.Revision > fresh.Revision || fresh.Revision < last {
						t.Errorf("%s: after revision %d, at %d: %+v", name, last, fresh.Revision, all)
					}
				}
				if last = fresh.Revision; len(all) != len(keys) {
					t.Errorf("%s: %d keys", name, len(all))
				}
			}
			t.Logf("%s: %d reads", name, reads)
		})
	}
	running.Go(func() { // a wider range replaces the watches within it
		<-time.After(500 * time.Millisecond)
		for ctx.Err() == nil {
			items, fresh, err := f.List(t.Context(), "d1/", Read{})
			if err != nil {
				t.Error(err)
				return
			}
			all := slices.Collect(items)
			for _, i := range all {
				if string(i.Value) != string(all[0].Value) || i.Revision > fresh.Revision {
					t.Errorf("a list at %d: %+v", fresh.Revision, all)
				}
			}
		}
	})
}

// Many keys are read in several transactions at one revision.
func TestReadsManyKeys(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{MaxCachedBytes: 1 << 20})
	var keys, want []string
	for n := range 3 * keysPerRead {
		keys = append(keys, fmt.Sprintf("app/%d", n))
		if n%7 == 0 {
			f.put(keys[n], "1")
			want = append(want, keys[n])
		}
	}
	for _, r := range []Read{{}, {Linearizable: true}} {
		items, fresh, err := f.GetMany(t.Context(), keys, r)
		var got []string
		for i := range items {
			got = append(got, i.Key)
		}
		if err != nil || !slices.Equal(got, want) || fresh.Revision == 0 {
			t.Errorf("%v %+v, %v", got, fresh, err)
		}
	}
	for _, key := range []string{"app/0", "app/7", "app/14"} {
		f.put(key, strings.Repeat("x", MaxValue))
	}
	if _, _, err := f.GetMany(t.Context(), keys, Read{Linearizable: true}); err == nil || !strings.Contains(err.Error(), "read fewer at once") {
		t.Errorf("%v", err)
	}
}

// Once etcd itself has answered, because the cache lagged or was too old, the cache answers nothing from
// before that, but for when etcd is away.
func TestAnswersDoNotGoBack(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{ProgressInterval: func() time.Duration { return time.Hour }})
	writer := etcdtest.Must(New(f.etcd, discovery.NewKeys("test"), Options{}))
	f.put("quiet/a", "1")
	f.get("quiet/a", Read{})
	for name, read := range map[string]func() (Freshness, error){
		"one": func() (Freshness, error) { _, fresh, err := f.Get(t.Context(), "quiet/a", Read{}); return fresh, err },
		"several": func() (Freshness, error) {
			_, fresh, err := f.GetMany(t.Context(), []string{"quiet/a", "quiet/b"}, Read{})
			return fresh, err
		},
		"all": func() (Freshness, error) { _, fresh, err := f.List(t.Context(), "quiet/", Read{}); return fresh, err },
	} {
		revision := etcdtest.Must(writer.Write(t.Context(), Op{Key: "busy/a", Value: []byte(name)}))
		if _, _, err := f.Get(t.Context(), "quiet/a", Read{MaxAge: time.Nanosecond}); err != nil {
			t.Fatal(err)
		}
		if fresh, err := read(); err != nil || fresh.Revision < revision {
			t.Errorf("%s: revision %d, %v; want at least %d", name, fresh.Revision, err, revision)
		}
	}
	before := f.state.Load().progress
	link.Freeze()
	link.Cut()
	retrytest.Eventually(t, "the break", func() bool { return f.reflector.Health().Err != nil })
	f.noteAnswer(etcdAnswer{f.state.Load().epoch, before + 1000})
	if _, fresh, err := f.Get(t.Context(), "quiet/a", Read{}); err != nil || fresh.Revision < before {
		t.Errorf("while etcd is away: revision %d, %v; want %d", fresh.Revision, err, before)
	}
}

// A read with the revision of a write to another directory is answered from memory while nothing
// changes in its own.
func TestRevisionOfAnotherDirectory(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{ProgressInterval: func() time.Duration { return time.Hour }})
	writer := etcdtest.Must(New(f.etcd, discovery.NewKeys("test"), Options{}))
	f.put("quiet/a", "1")
	f.get("quiet/a", Read{})
	for n := range 20 {
		revision, err := writer.Write(t.Context(), Op{Key: "busy/a", Value: []byte(fmt.Sprint(n))})
		if err != nil {
			t.Fatal(err)
		}
		fromMemory := func() bool {
			_, fresh, err := f.Get(t.Context(), "quiet/a", Read{MinRevision: revision})
			if err != nil || fresh.Revision < revision {
				t.Fatalf("write %d: revision %d, %v; want at least %d", n, fresh.Revision, err, revision)
			}
			return fresh.Epoch != ""
		}
		retrytest.Eventually(t, "an answer from memory", fromMemory)
		before := link.Sent()
		for range 100 {
			if !fromMemory() {
				t.Fatalf("write %d: etcd is asked for what is known already", n)
			}
		}
		if sent := link.Sent() - before; sent > 1000 {
			t.Errorf("%d bytes went over the link for what is known already", sent)
		}
	}
}
