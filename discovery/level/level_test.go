package level

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
	"disc/discovery/retry"
	"disc/discovery/retry/retrytest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

var keys = discovery.NewKeys("test")

// start returns an etcd in which a namespace is in use.
func start(t *testing.T) *clientv3.Client {
	t.Helper()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	put(t, client, keys.Epoch(), "e")
	return client
}

func put(t *testing.T, client *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := client.Put(etcdtest.Context(t), key, value); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, client *clientv3.Client, key string) {
	t.Helper()
	if _, err := client.Delete(etcdtest.Context(t), key); err != nil {
		t.Fatal(err)
	}
}

// node writes the record of an agent that can read a level; 0: it does not say so.
func node(t *testing.T, client *clientv3.Client, name string, level int) {
	t.Helper()
	put(t, client, keys.Node(name, "agent"), string(discovery.Node{Node: name, Agent: "agent", Version: "v" + name, Level: level}.Encode()))
}

// newLevel returns what an agent knows that can read a level.
func newLevel(t *testing.T, client *clientv3.Client, own int) *Level {
	l := New(client, keys, Options{Own: own, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	l.clean = 3
	return l
}

// checkNow has an agent check although somebody may have done so lately.
func (l *Level) checkNow(t *testing.T) discovery.LevelRecord {
	t.Helper()
	remove(t, l.client, keys.LevelChecked())
	if err := l.refresh(etcdtest.Context(t), false); err != nil {
		t.Fatal(err)
	}
	return stateOf(t, l.client)
}

// stateOf returns the record in etcd; of level 0: there is none.
func stateOf(t *testing.T, client *clientv3.Client) discovery.LevelRecord {
	t.Helper()
	r, err := client.Get(etcdtest.Context(t), keys.Level())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		return etcdtest.Must(discovery.DecodeLevel(kv.Value))
	}
	return discovery.LevelRecord{}
}

// The level never falls: who knows a higher one writes it again, after a wipe or a restore.
func TestLevelNeverFalls(t *testing.T) {
	t.Parallel()
	client := start(t)
	put(t, client, keys.Level(), `{"level":3}`)
	l := newLevel(t, client, 3)
	l.checkNow(t)
	for name, lower := range map[string]func(){
		"wiped":    func() { remove(t, client, keys.Level()) },
		"restored": func() { put(t, client, keys.Level(), `{"level":2,"target":3,"clean":1}`) },
	} {
		lower()
		if err := l.refresh(etcdtest.Context(t), true); err != nil {
			t.Fatal(err)
		}
		if r := stateOf(t, client); r.Level != 3 || r.Target != 0 || !l.Allows(3) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// What is read late does not lower the level.
func TestLateRecord(t *testing.T) {
	t.Parallel()
	l := newLevel(t, nil, 3)
	for _, level := range []int{3, 1} {
		l.adopt(discovery.LevelRecord{Level: level})
	}
	if s := l.State(); !l.Allows(3) || s.Record.Level != 3 {
		t.Errorf("%+v", s)
	}
}

// A value that cannot be read is left, and the error says what to do.
func TestUnreadableLevel(t *testing.T) {
	t.Parallel()
	client := start(t)
	put(t, client, keys.Level(), `{"level":3}`)
	l := newLevel(t, client, 3)
	l.checkNow(t)
	put(t, client, keys.Level(), "junk")
	if err := l.refresh(etcdtest.Context(t), false); err == nil || !strings.Contains(err.Error(), "delete the key") || !l.lasting(err) {
		t.Errorf("%v", err)
	}
	if !l.Allows(3) {
		t.Error("what was known is forgotten")
	}
}

// An agent asks again soon only while it does not know the level: a check costs a lease.
func TestWait(t *testing.T) {
	t.Parallel()
	away := discovery.Errorf(discovery.ErrUnavailable, "away")
	for name, c := range map[string]struct {
		known     int
		first     bool
		err       error
		low, high time.Duration
	}{
		"nothing is known":        {0, true, away, 0, retry.MaxDelay},
		"a check failed":          {1, false, away, pollInterval * 4 / 5, pollInterval},
		"the first read, behind":  {1, true, nil, soonInterval * 4 / 5, soonInterval},
		"the first read, level 2": {2, true, nil, pollInterval * 4 / 5, pollInterval},
		"etcd refuses it":         {0, true, discovery.Errorf(discovery.ErrInvalid, "bad"), pollInterval * 4 / 5, pollInterval},
	} {
		l := New(nil, keys, Options{Own: 2})
		l.level.Store(int64(c.known))
		var backoff retry.Backoff
		for range 20 {
			if got := l.wait(c.first, c.err, &backoff); got < c.low || got > c.high {
				t.Errorf("%s: %v", name, got)
			}
		}
	}
}

// logs collects what is logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// An agent that may not write the level misses its part of the raise, says so once, and learns of a
// level that others have raised.
func TestRefused(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.Start(t).Endpoint()
	root, client := etcdtest.EnableAuth(t, endpoint), etcdtest.User(t, endpoint, "agent")
	etcdtest.PermitPrefix(t, root, clientv3.PermissionType(clientv3.PermRead), keys.Prefix())
	put(t, root, keys.Epoch(), "e")
	var said logs
	l := New(client, keys, Options{Own: 2, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	for range 2 {
		err := l.refresh(etcdtest.Context(t), false)
		if l.skip != refusedReads && l.skip != refusedReads-1 { // no second attempt
			t.Errorf("the next check is after %d reads", l.skip)
		}
		if etcd.Refused(err) != etcd.RefusedPermission {
			t.Fatalf("%v, want that it is refused", err)
		}
		l.report(t.Context(), err)
	}
	if strings.Count(said.String(), "level=WARN") != 1 {
		t.Errorf("logged:\n%s", said.String())
	}
	if leases := etcdtest.Must(root.Leases(etcdtest.Context(t))).Leases; len(leases) != 0 {
		t.Errorf("%d leases are left", len(leases))
	}
	if s := l.State(); s.Err == nil || s.Record.Level != 1 {
		t.Errorf("%+v", s)
	}
	etcdtest.Must(root.UserAdd(t.Context(), "stranger", "stranger"))
	stranger := New(etcdtest.User(t, endpoint, "stranger"), keys, Options{Own: 2})
	if err := stranger.refresh(etcdtest.Context(t), true); etcd.Refused(err) != etcd.RefusedPermission || stranger.Allows(1) {
		t.Errorf("who may not read it has level %d, %v", stranger.level.Load(), err)
	}
	put(t, root, keys.Level(), `{"level":2}`)
	for l.skip = range 2 { // it would check
		if err := l.refresh(etcdtest.Context(t), false); err != nil || !l.Allows(2) {
			t.Errorf("level %d, %v", l.level.Load(), err)
		}
	}
}

// runs runs what an agent knows until the test ends.
func (l *Level) runs(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Run raises the level, by checks that leases space.
func TestRun(t *testing.T) {
	t.Parallel()
	l := New(start(t), keys, Options{Own: 2})
	l.poll, l.check, l.idle, l.clean = 50*time.Millisecond, 2*time.Second, 2*time.Second, 2
	l.runs(t)
	retrytest.Eventually(t, "the raise", func() bool { return l.Allows(2) })
}

// lives counts the lives of an etcd.
type lives struct {
	mu      sync.Mutex
	n       int
	changed chan struct{}
}

func (c *lives) count() (int, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n, c.changed
}

func (c *lives) change(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += by
	close(c.changed)
	c.changed = make(chan struct{})
}

// An agent reads the level again when etcd has started over, not at once, and checks nothing then.
func TestEtcdStartsOver(t *testing.T) {
	t.Parallel()
	client := start(t)
	put(t, client, keys.Level(), `{"level":2}`)
	etcd := &lives{changed: make(chan struct{})}
	var l [2]*Level
	for n, settle := range []time.Duration{10 * time.Millisecond, time.Hour} {
		l[n] = New(client, keys, Options{Own: 2, Changed: etcd.count})
		l[n].poll, l[n].settle = time.Hour, settle
		l[n].runs(t)
		retrytest.Eventually(t, "the first read", func() bool { return l[n].Allows(2) })
	}
	named := func(n int) int { return len(l[n].State().Record.Behind) }
	for n, value := range []string{`{"level":2,"behind":[{"node":"a"}]}`, `{"level":2,"behind":[{"node":"a"},{"node":"b"}]}`} {
		put(t, client, keys.Level(), value)
		etcd.change(0)
		etcd.change(1)
		retrytest.Eventually(t, "the read after etcd started over", func() bool { return named(0) == n+1 })
	}
	if named(1) != 0 {
		t.Error("an agent reads at once")
	}
	if turn := etcdtest.Must(client.Get(etcdtest.Context(t), keys.LevelChecked())).Kvs; len(turn) != 0 {
		t.Error("an agent checks at once")
	}
}

// An agent reads again soon while the namespace has no epoch: a level may come with it.
func TestBeforeTheEpoch(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	l := newLevel(t, client, 2)
	if err := l.refresh(etcdtest.Context(t), true); err == nil || l.lasting(err) {
		t.Fatalf("%v", err)
	}
	for range 2 { // it does not replace a level
		if _, err := client.Txn(etcdtest.Context(t)).Then(append(First(keys, 2), clientv3.OpPut(keys.Epoch(), "e"))...).Commit(); err != nil {
			t.Fatal(err)
		}
		if err := l.refresh(etcdtest.Context(t), true); err != nil {
			t.Fatal(err)
		}
		if r := stateOf(t, client); r.Level < 2 || !l.Allows(r.Level) {
			t.Errorf("%+v", r)
		}
		put(t, client, keys.Level(), `{"level":3}`)
	}
	if r := stateOf(t, client); r.Level != 3 {
		t.Errorf("%+v", r)
	}
}

// A namespace in which an agent is there already, perhaps an older one, does not begin with a level.
func TestFirstAfterAnAgent(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	node(t, client, "old", 1)
	if _, err := client.Txn(etcdtest.Context(t)).Then(append(First(keys, 2), clientv3.OpPut(keys.Epoch(), "e"))...).Commit(); err != nil {
		t.Fatal(err)
	}
	if r := stateOf(t, client); r.Level != 0 {
		t.Errorf("%+v", r)
	}
}

// A record that no agent could read again is not written.
func TestRecordTooLong(t *testing.T) {
	t.Parallel()
	client := start(t)
	value := `{"level":1,"a":"` + strings.Repeat("a", discovery.MaxLevelRecord-20) + `"}`
	put(t, client, keys.Level(), value)
	remove(t, client, keys.LevelChecked())
	l := newLevel(t, client, 2)
	if err := l.refresh(etcdtest.Context(t), false); !l.lasting(err) || !strings.Contains(err.Error(), keys.Level()+" would have") {
		t.Errorf("%v", err)
	}
	if got := etcdtest.Must(client.Get(etcdtest.Context(t), keys.Level())).Kvs[0].Value; string(got) != value {
		t.Errorf("%d bytes are written", len(got))
	}
	if leases := etcdtest.Must(client.Leases(etcdtest.Context(t))).Leases; len(leases) != 0 {
		t.Errorf("%d leases are left", len(leases))
	}
}
