package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// cell is a key. One writer writes 1, 2, 3… to it through one agent, and readers read it through
// several.
type cell struct {
	key     string
	written atomic.Int64 // the last acknowledged value
	checked atomic.Int64 // the number of acknowledged values that were read back
}

// write writes again and again until ctx ends, and reads each acknowledged value through the
// other agent.
func (c *cell) write(ctx context.Context, t *testing.T, one, two *sidecar) {
	for n := int64(1); ctx.Err() == nil; n++ {
		revision, err := one.KVPut(ctx, c.key, strconv.AppendInt(nil, n, 10), 0, nil)
		if err != nil {
			continue // the outcome is unknown
		}
		c.written.Store(n)
		item, view, err := two.KVGet(ctx, c.key, api.KVRead{MinRevision: revision})
		switch {
		case errors.Is(err, discovery.ErrUnavailable) || ctx.Err() != nil:
			continue
		case err != nil:
			t.Errorf("%s was written at revision %d, but reading it with min_rev fails: %v", c.key, revision, err)
		case item.Revision < revision || view.Revision < revision || item.Revision == revision && string(item.Value) != fmt.Sprint(n):
			t.Errorf("%s was written at revision %d, but at revision %d it is %q of revision %d", c.key, revision, view.Revision, item.Value, item.Revision)
		}
		c.checked.Add(1)
	}
}

// read reads through an agent again and again until ctx ends. After the first answer every read is
// answered, and none is older than an earlier one.
func (c *cell) read(ctx context.Context, t *testing.T, s *sidecar) {
	var item api.KVItem
	var view api.Freshness
	for ctx.Err() == nil {
		next, at, err := s.KVGet(ctx, c.key, api.KVRead{})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && item.Revision > 0:
			t.Errorf("%s was read before: %v", c.key, err)
		case err == nil && (next.Revision < item.Revision || at.Revision < view.Revision):
			t.Errorf("%s was read at revision %d with revision %d, and then at %d with %d", c.key, view.Revision, item.Revision, at.Revision, next.Revision)
		}
		if err == nil {
			item, view = next, at
		}
		pause(10 * time.Millisecond)
	}
}

// hasValue returns an error unless the agent answers with this value of the key.
func (s *sidecar) hasValue(ctx context.Context, key, value string) error {
	item, _, err := s.KVGet(ctx, key, api.KVRead{})
	if err == nil && string(item.Value) != value {
		err = fmt.Errorf("%s is %q", key, item.Value)
	}
	return err
}

// TestFaultKeyValues writes and reads keys through two agents, while one of them is cut off from
// etcd, the revisions that it misses are compacted, and leaders are killed and paused. A read with
// the revision of a write sees it, and no reader sees an older value after a newer one.
func TestFaultKeyValues(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.StartCluster(t, 3, "--unsafe-no-fsync")
	client := etcd.Client()
	var links []*etcdtest.Link
	var behind []string
	for _, endpoint := range etcd.Endpoints() {
		link := etcdtest.StartLink(t, endpoint)
		links, behind = append(links, link), append(behind, link.Endpoint())
	}
	each := func(do func(*etcdtest.Link)) {
		for _, l := range links {
			do(l)
		}
	}
	one, two := startSidecar(t, "one", endpoints(etcd)), startSidecar(t, "two", strings.Join(behind, ", "))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	cells := []*cell{{key: "a/k"}, {key: "b/k"}}
	for _, c := range cells {
		running.Go(func() { c.write(ctx, t, one, two) })
		running.Go(func() { c.read(ctx, t, one) })
		running.Go(func() { c.read(ctx, t, two) })
	}
	probes := 0
	recovers := func(what string) {
		t.Helper()
		probes++
		value := fmt.Sprint(probes)
		if !await(func() bool { _, err := one.KVPut(t.Context(), "probe", []byte(value), 0, nil); return err == nil }) {
			t.Fatal(what, ": nothing can be written")
		}
		within(t, time.Now(), 8*time.Second, what, func() error { return two.hasValue(t.Context(), "probe", value) })
		for _, c := range cells {
			before := c.checked.Load()
			within(t, time.Now(), 8*time.Second, "writes to "+c.key+" are read", func() error {
				if c.checked.Load() == before {
					return errors.New("not yet")
				}
				return nil
			})
		}
	}
	recovers("without a fault")

	each((*etcdtest.Link).Freeze)
	if _, err := client.Compact(t.Context(), revisionOf(t, client), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	pause(time.Second)
	each((*etcdtest.Link).Cut)
	each((*etcdtest.Link).Mend)
	recovers("after one agent was cut off and the revisions that it missed were compacted")

	for range 5 {
		each((*etcdtest.Link).Cut)
		pause(200 * time.Millisecond)
	}
	recovers("after its connections were closed")

	etcd.Leader().Kill()
	pause(time.Second)
	etcd.Start()
	recovers("after the leader was killed")

	leader := etcd.Leader()
	leader.Pause()
	pause(2 * time.Second)
	leader.Continue()
	recovers("after the leader was paused")
	for _, c := range cells {
		t.Logf("%s: %d writes, %d of them read through the other agent", c.key, c.written.Load(), c.checked.Load())
	}
}

func revisionOf(t *testing.T, client *clientv3.Client) int64 {
	t.Helper()
	r, err := client.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// TestFaultKeyValuesStartedOver wipes etcd, or restores it from an older backup. A read with the
// revision of a later write sees that write, and a read with a revision that is gone fails and
// says so.
func TestFaultKeyValuesStartedOver(t *testing.T) {
	t.Parallel()
	for name, restore := range map[string]func(*testing.T, string){
		"wiped":    func(t *testing.T, dir string) { empty(t, dir) },
		"restored": func(t *testing.T, dir string) { empty(t, dir); copyDir(t, dir+".backup", dir) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "etcd")
			etcd := startMember(t, "--data-dir", dir)
			one, two := startSidecar(t, "one", etcd.endpoint), startSidecar(t, "two", etcd.endpoint)
			put := func(value string) (revision int64) {
				t.Helper()
				if !await(func() bool {
					var err error
					revision, err = one.KVPut(t.Context(), "app/k", []byte(value), 0, nil)
					return err == nil
				}) {
					t.Fatal("nothing can be written")
				}
				return revision
			}
			put("backed up")
			within(t, time.Now(), waitTimeout, "the backed-up value is read", func() error { return two.hasValue(t.Context(), "app/k", "backed up") })
			etcd.signal(syscall.SIGKILL)
			<-etcd.ended
			copyDir(t, dir, dir+".backup")
			etcd.start(t)
			var gone int64
			for range 100 {
				gone = put("gone")
			}
			within(t, time.Now(), waitTimeout, "the value to lose is read", func() error { return two.hasValue(t.Context(), "app/k", "gone") })

			etcd.signal(syscall.SIGKILL)
			<-etcd.ended
			restore(t, dir)
			etcd.start(t)
			revision := put("new")
			if revision >= gone {
				t.Fatalf("the revision was %d before and is %d, want a lower one", gone, revision)
			}
			written := time.Now()
			within(t, written, 5*time.Second, "the write is read by its revision", func() error {
				asked := time.Now()
				item, view, err := two.KVGet(t.Context(), "app/k", api.KVRead{MinRevision: revision})
				switch {
				case err != nil:
					return err
				case string(item.Value) == "new" && item.Revision == revision:
					return nil
				case view.Age < asked.Sub(written): // etcd has answered, so that the cache was not to be used
					t.Errorf("the value is %q of revision %d, confirmed %v ago, want revision %d", item.Value, item.Revision, view.Age, revision)
				}
				return fmt.Errorf("etcd does not answer the agent: the value is %q, confirmed %v ago", item.Value, view.Age)
			})
			within(t, time.Now(), 5*time.Second, "and without it", func() error { return two.hasValue(t.Context(), "app/k", "new") })
			for _, s := range []*sidecar{one, two} {
				if item, view, err := s.KVGet(t.Context(), "app/k", api.KVRead{MinRevision: gone}); !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "lost in a restore") {
					t.Errorf("with revision %d, which is gone: %q at %d, %v", gone, item.Value, view.Revision, err)
				}
			}
		})
	}
}
