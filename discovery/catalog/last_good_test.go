package catalog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/entry"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// memoryStore is a LastGoodStore in memory.
type memoryStore struct {
	mu        sync.Mutex
	content   []byte
	confirmed time.Time
	full      bool
}

func (m *memoryStore) Load() ([]byte, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.content == nil {
		return nil, time.Time{}, fs.ErrNotExist
	}
	return m.content, m.confirmed, nil
}

func (m *memoryStore) Save(write func(io.Writer) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return errors.New("no space left on device")
	}
	var content bytes.Buffer
	if err := write(&content); err != nil {
		return err
	}
	m.content, m.confirmed = content.Bytes(), time.Now()
	return nil
}

func (m *memoryStore) Touch() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.confirmed = time.Now()
	return nil
}

// TestLastGood stops a catalog, and starts others without etcd: with the saved view, with
// damaged ones, and with another namespace's.
func TestLastGood(t *testing.T) {
	etcd := etcdtest.Start(t)
	client := etcdtest.Client(t, etcd.Endpoint())
	keys := discovery.NewKeys("default")
	editor := entry.Editor{Client: client, Keys: keys}
	for _, id := range []string{"web-1", "web-2"} {
		if _, err := editor.PutStatic(t.Context(), "web", id, func(i discovery.Instance) (discovery.Instance, error) {
			i.Address, i.Meta = "10.0.0.1", discovery.Meta{"Team": "core"}
			return i, nil
		}, entry.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	weight := 7
	if _, err := editor.Override(t.Context(), "web", "web-2", func(o discovery.Override) (discovery.Override, error) {
		o.Weight = &weight
		return o, nil
	}, entry.Options{}); err != nil {
		t.Fatal(err)
	}
	store := &memoryStore{}
	c := etcdtest.Must(New(client, keys, Options{LastGood: store}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	for view, err := c.View(); err != nil || view.Snapshot.Revision() == 0; view, err = c.View() {
		<-time.After(time.Millisecond)
	}
	cancel()
	<-done
	if store.content == nil {
		t.Fatal("nothing was saved")
	}
	if err := etcd.Close(); err != nil {
		t.Fatal(err)
	}

	view := restored(t, keys, store)
	service, ok := view.Snapshot.Service("web")
	if !ok || len(service.Entries()) != 2 || !view.Stale || !view.Restored {
		t.Fatalf("restored %+v, stale %v", service, view.Stale)
	}
	if e, _ := service.Entry("web-2"); e.Weight != 7 || e.Meta["Team"] != "core" || e.Override == nil {
		t.Errorf("restored %+v", e)
	}

	for name, content := range map[string][]byte{
		"torn":    store.content[:len(store.content)-3],
		"flipped": bytes.Replace(store.content, []byte("web-1"), []byte("web-9"), 1),
		"other":   []byte("[]"),
		"empty":   {},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := viewOf(&memoryStore{content: content}, keys); !errors.Is(err, discovery.ErrUnavailable) {
				t.Errorf("%v, want it refused", err)
			}
		})
	}
	if _, err := viewOf(store, discovery.NewKeys("other")); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("another namespace's: %v, want it refused", err)
	}
}

func restored(t *testing.T, keys discovery.Keys, store LastGoodStore) view.View {
	t.Helper()
	view, err := viewOf(store, keys)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

// viewOf returns the view that a catalog has before it runs.
func viewOf(s LastGoodStore, keys discovery.Keys) (view.View, error) {
	return etcdtest.Must(New(nil, keys, Options{LastGood: s})).View()
}

func TestLastGoodThatCannotBeSaved(t *testing.T) {
	store := &memoryStore{content: []byte("the old one"), full: true}
	c := etcdtest.Must(New(nil, discovery.NewKeys("default"), Options{LastGood: store}))
	c.publishReset(state{snapshot: view.EmptySnapshot(), confirmed: time.Now()})
	if _, err := c.saveIfChanged(nil); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("got %v", err)
	}
	if string(store.content) != "the old one" {
		t.Errorf("the store has %q", store.content)
	}
}

// A catalog that is run again, as the agent's watchdog does, resumes from its view, not from
// the saved one.
func TestRunsAgain(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{Life: anyLife, LastGood: &memoryStore{}})
	f.register("web", "a")
	before := f.settled()
	f.stop()
	f.register("web", "b")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	retrytest.Eventually(f.t, "web/b", func() bool {
		if web := mustService(t, f.snapshot(), "web"); web.Healthy() == 0 {
			t.Fatal("the view was empty")
		}
		return dump(f.snapshot()) != dump(before)
	})
	now := f.settled()
	if now.Epoch() != before.Epoch() {
		t.Errorf("the epoch was %s and is %s", before.Epoch(), now.Epoch())
	}
	retrytest.Eventually(f.t, "the heartbeat is idle", func() bool {
		_, working := f.Heartbeat().Beat()
		return !working
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// While the watched scopes change between one service and everything, each saved view says
// whether it is partial, and so does each view that a reader gets.
func TestSavedViewIsWholeOrSaysSo(t *testing.T) {
	t.Parallel()
	store := &memoryStore{}
	f, _ := lazily(t, Options{Watch: WatchLazy, LastGood: store})
	f.register("web", "a")
	f.register("db", "a")
	defer f.Retain(named("web"))()
	retrytest.Eventually(t, "web", func() bool { return f.Has(named("web")) })
	partial := f.state.Load()
	saved := func(s *state) lastGoodView {
		t.Helper()
		if err := f.save(s); err != nil {
			t.Fatal(err)
		}
		return etcdtest.Must(readLastGood(store.content, keys))
	}
	if err := f.Ensure(f.ctx(), everything); err != nil {
		t.Fatal(err)
	}
	if v := saved(partial); !v.Partial {
		t.Error("a partial view is saved as a whole one")
	}
	whole := f.state.Load()
	if v := saved(whole); v.Partial {
		t.Error("a whole view is saved as a partial one")
	}
	if whole.hasContentOf(partial) {
		t.Error("a view that has become whole is not saved anew")
	}

	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			if v, err := f.View(); err != nil || !v.Partial && !v.Snapshot.Has(named("db")) {
				t.Errorf("a view without db says that it is whole, or: %v", err)
				return
			}
			if _, err := f.Service("db"); errors.Is(err, discovery.ErrNotFound) {
				t.Errorf("db is answered as unknown: %v", err)
				return
			}
		}
	})
	for range 200 {
		f.idle()
		if err := f.Ensure(f.ctx(), everything); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	reading.Wait()
}

// An idle scope is not dropped from the view once everything is watched.
func TestIdleScopeWhileEverythingIsWatched(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy})
	f.register("web", "a")
	if _, err := f.lookup("web"); err != nil {
		t.Fatal(err)
	}
	if err := f.Ensure(f.ctx(), everything); err != nil { // after web was found to be idle
		t.Fatal(err)
	}
	late := time.Now().Add(2 * idleTimeout)
	if err := f.reflector.Load().Do(f.ctx(), func() {
		f.dropScope(named("web"), late)
		f.dropScope(named("web"), late.Add(2*idleTimeout)) // the first consumed the lookup
	}); err != nil {
		t.Fatal(err)
	}
	if v, err := f.View(); err != nil || !v.Partial && !v.Snapshot.Has(named("web")) {
		t.Errorf("the whole view lacks a service; %v", err)
	}
}
