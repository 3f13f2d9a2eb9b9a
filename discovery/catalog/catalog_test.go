package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// begin runs a catalog on an etcd of its own.
func begin(t *testing.T, o Options) *fixture {
	t.Helper()
	s := etcdtest.Start(t)
	return start(t, s.Endpoint(), s.Endpoint(), o)
}

func TestNoViewBeforeTheFirstList(t *testing.T) {
	t.Parallel()
	const nowhere = "127.0.0.1:1"
	f := start(t, nowhere, nowhere, Options{})
	if _, err := f.View(); !errors.Is(err, discovery.ErrUnavailable) {
		t.Fatalf("error %v, want unavailable", err)
	}
	retrytest.Eventually(f.t, "a reason", func() bool {
		_, err := f.View()
		return strings.Contains(err.Error(), "read epoch")
	})
	if h := f.Health(); h.Synced || h.Err == nil {
		t.Errorf("health %+v", h)
	}
}

// More than a page of keys is listed, and then watched, as one view.
func TestListThenWatch(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	client := etcdtest.Client(t, s.Endpoint())
	const many = 2001
	fill(t, client, "web", many, func(id string) string { return record("web", id) })
	fill(t, client, "db", 3, func(id string) string { return record("DB", id) })
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	retrytest.Eventually(f.t, "a view", func() bool { return f.snapshot() != nil })
	if services, instances, _ := f.snapshot().Len(); services != 2 || instances != many+3 {
		t.Fatalf("the first view has %d services, %d instances", services, instances)
	}
	last := f.register("web", "zz")
	f.put(keys.Node("n1", "o"), `{"node":"n1","agent":"o"}`)
	f.put(keys.Override("web", "zz"), `{"state":"drain"}`)
	f.remove(keys.Instance("db", "i000000"))
	view := f.settled()
	if e, _ := mustService(t, view, "web").Entry("zz"); e.State != discovery.Drain || e.Revision != last+2 {
		t.Errorf("zz is %+v", e)
	}
	if got := mustService(t, view, "web").Revision; got != last+2 {
		t.Errorf("revision of web is %d, want %d", got, last+2)
	}
}

func mustService(t *testing.T, s *view.Snapshot, name string) *view.Service {
	t.Helper()
	service, ok := s.Service(name)
	if !ok {
		t.Fatalf("service %s is not known", name)
	}
	return service
}

func TestOnlyThoseConcernedWake(t *testing.T) {
	t.Parallel()
	f := begin(t, Options{})
	f.reached(f.register("web", "a"))
	f.reached(f.register("db", "a"))
	web, db, unknown, all := f.Changed("WEB"), f.Changed("db"), f.Changed("nobody"), f.Changed("")
	f.reached(f.register("db", "b"))
	if isClosed(web) || !isClosed(db) || isClosed(unknown) || !isClosed(all) {
		t.Errorf("after a change of db: web %v, db %v, unknown %v, all %v", isClosed(web), isClosed(db), isClosed(unknown), isClosed(all))
	}
	all = f.Changed("")
	f.reached(f.put(keys.Node("n1", "o"), `{"node":"n1","agent":"o"}`))
	if isClosed(web) || isClosed(unknown) || !isClosed(all) {
		t.Errorf("after a node: web %v, unknown %v, all %v", isClosed(web), isClosed(unknown), isClosed(all))
	}
	all = f.Changed("")
	f.reached(f.put(keys.Service("web")+"load/a", `{"utilization":1}`))
	if isClosed(web) || isClosed(all) {
		t.Errorf("after a load report: web %v, all %v", isClosed(web), isClosed(all))
	}
	f.reached(f.register("nobody", "a"))
	if isClosed(web) || !isClosed(unknown) {
		t.Errorf("after a new service: web %v, unknown %v", isClosed(web), isClosed(unknown))
	}
}

func TestUnknownNamesKeepNoChannels(t *testing.T) {
	t.Parallel()
	f := begin(t, Options{Remember: time.Millisecond})
	f.reached(f.register("web", "a"))
	for n := range 1000 {
		f.Changed(fmt.Sprint("name-", n))
	}
	f.Changed("web")
	f.reached(f.remove(keys.Instance("web", "a")))
	retrytest.Eventually(f.t, "web to be forgotten", func() bool { return f.snapshot().ServiceCount() == 0 })
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.notifier.services); n > 0 {
		t.Errorf("%d channels are left", n)
	}
}

// An untouched service is the same one in the next snapshot.
func TestCopyOnWrite(t *testing.T) {
	t.Parallel()
	f := begin(t, Options{})
	f.register("web", "a")
	before := f.reached(f.register("db", "a"))
	after := f.reached(f.register("db", "b"))
	if before == after || mustService(t, before, "web") != mustService(t, after, "web") {
		t.Error("web was copied for a change of db")
	}
	if n := len(mustService(t, before, "db").Entries()); n != 1 {
		t.Errorf("the earlier snapshot has %d instances of db now", n)
	}
}

func TestEmptyServices(t *testing.T) {
	t.Parallel()
	for _, remember := range []time.Duration{time.Hour, 50 * time.Millisecond} {
		t.Run(remember.String(), func(t *testing.T) {
			f := begin(t, Options{Remember: remember})
			f.register("web", "a")
			f.reached(f.register("db", "a"))
			gone := f.Changed("web")
			s := f.reached(f.remove(keys.Instance("web", "a")))
			retrytest.Eventually(f.t, "a wake-up", func() bool { return isClosed(gone) })
			if remember == time.Hour {
				if !mustService(t, s, "web").Empty() {
					t.Error("web still has instances")
				}
				return
			}
			retrytest.Eventually(f.t, "web to be forgotten", func() bool { // without any further change
				_, known := f.snapshot().Service("web")
				return !known
			})
			mustService(t, f.snapshot(), "db")
		})
	}
}

func TestBrokenRecords(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	bad := map[string]string{
		keys.Instance("web", "junk"):       "\x00\xff not JSON",
		keys.Instance("web", "big"):        strings.Repeat("x", 1400<<10),
		keys.Instance("web", "elsewhere"):  record("web", "another-id"),
		keys.Static("web", "wrong"):        `{"service":"web","id":"wrong","address":""}`,
		keys.Override("web", "good"):       `{"state":"sideways"}`,
		keys.Node("n1", "o"):               `[]`,
		keys.Services() + "web/a/b/c/d":    `{}`,
		keys.Services() + "web/new-kind/x": `{}`,
	}
	f.register("web", "good")
	for key, value := range bad {
		f.put(key, value)
	}
	f.put(keys.Instance("web", "later"), `{"version":9,"service":"web","id":"later","address":"::1","port":1,"quantum":{"a":[1]}}`)
	last := f.register("web", "zz")
	check := func(how string, f *fixture) {
		t.Helper()
		var ids []string
		for _, e := range mustService(t, f.reached(last), "web").Entries() {
			ids = append(ids, e.ID)
		}
		if want := []string{"good", "later", "zz"}; !slices.Equal(ids, want) {
			t.Errorf("%s: %v are shown, want %v", how, ids, want)
		}
		if n := f.Health().Broken; n != len(bad) {
			t.Errorf("%s: %d are counted, want %d", how, n, len(bad))
		}
		if lines := f.log.lines("cannot be read"); len(lines) != len(bad) {
			t.Errorf("%s: %d lines, want %d:\n%s", how, len(lines), len(bad), strings.Join(lines, ""))
		}
	}
	check("watched", f)
	check("listed", start(t, s.Endpoint(), s.Endpoint(), Options{}))
	if _, broken := f.truth(); len(broken) != len(bad) {
		t.Errorf("ReadOnce finds %d", len(broken))
	}

	f.reached(f.remove(keys.Instance("web", "junk")))
	f.reached(f.remove(keys.Services() + "web/a/b/c/d"))
	f.reached(f.register("web", "big"))
	f.reached(f.put(keys.Instance("web", "elsewhere"), "still no record"))
	retrytest.Eventually(f.t, "three to be repaired", func() bool { return f.Health().Broken == len(bad)-3 })
	if lines := f.log.lines("cannot be read"); len(lines) != len(bad) {
		t.Errorf("%d lines after the repairs, want %d", len(lines), len(bad))
	}
}

func TestReadOnce(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	client := etcdtest.Client(t, s.Endpoint())
	fill(t, client, "web", 1500, func(id string) string { return record("web", id) })
	fill(t, client, "web2", 1, func(id string) string { return record("web2", id) })
	for service, want := range map[string]int{"": 1501, "WEB": 1500, "web2": 1, "we": 0} {
		t.Run(fmt.Sprintf("%q", service), func(t *testing.T) {
			s, broken, err := ReadOnce(t.Context(), client, keys, service)
			if err != nil || len(broken) > 0 {
				t.Fatal(err, broken)
			}
			if _, instances, _ := s.Len(); instances != want || s.Revision() != 17 {
				t.Errorf("%d instances at %d, want %d at 17", instances, s.Revision(), want)
			}
		})
	}
	s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if s, _, err := ReadOnce(ctx, client, keys, ""); err == nil || s != nil {
		t.Errorf("without etcd: %v, %v", s, err)
	}
}

// When Run has ended, nothing goes on running, and the view stays.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	f := begin(t, Options{})
	f.reached(f.register("web", "a"))
	f.stop()
	if v, err := f.View(); err != nil || v.Snapshot.ServiceCount() != 1 {
		t.Errorf("the view is gone with Run: %v", err)
	}
}
