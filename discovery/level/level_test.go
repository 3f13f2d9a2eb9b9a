package level

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
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

// An older agent holds the level back: for as long as it is there, and for a number of checks after.
func TestOlderAgentHoldsTheLevelBack(t *testing.T) {
	t.Parallel()
	client := start(t)
	l := newLevel(t, client, 2)
	node(t, client, "new", 2)
	node(t, client, "old", 0)
	r := l.checkNow(t)
	if r.Level != 1 || r.Target != 2 || r.Clean != 0 || len(r.Behind) != 1 || r.Behind[0].Node != "old" || r.Behind[0].Version != "vold" || r.Behind[0].Level != 1 {
		t.Fatalf("%+v", r)
	}
	remove(t, client, keys.Node("old", "agent"))
	for n := 1; n < 3; n++ {
		if r = l.checkNow(t); r.Level != 1 || r.Clean != n || len(r.Behind) != 1 || l.Allows(2) {
			t.Fatalf("after %d clean checks: %+v", n, r)
		}
	}
	node(t, client, "old", 0) // it was stopped for a while
	if r = l.checkNow(t); r.Clean != 0 || l.Allows(2) {
		t.Fatalf("%+v", r)
	}
	node(t, client, "old", 2) // it is upgraded
	for n := 1; n < 3; n++ {
		if r = l.checkNow(t); r.Level != 1 || r.Clean != n || len(r.Behind) != 0 {
			t.Fatalf("after the upgrade and %d clean checks: %+v", n, r)
		}
	}
	if r = l.checkNow(t); r.Level != 2 || r.Target != 0 || r.Clean != 0 || !l.Allows(2) || l.Allows(3) {
		t.Errorf("%+v", r)
	}
}

// An older agent that comes after the level has risen is named, and the level stays.
func TestOlderAgentComesLate(t *testing.T) {
	t.Parallel()
	client := start(t)
	put(t, client, keys.Level(), `{"level":2,"of_a_later_version":true}`)
	node(t, client, "old", 1)
	l := newLevel(t, client, 2)
	if r := l.checkNow(t); r.Level != 2 || len(r.Behind) != 1 || !l.Allows(2) {
		t.Errorf("%+v", r)
	}
	value := etcdtest.Must(client.Get(etcdtest.Context(t), keys.Level())).Kvs[0].Value
	if !strings.Contains(string(value), `"of_a_later_version":true`) {
		t.Errorf("the record is %s", value)
	}
	var said logs
	old := New(client, keys, Options{Own: 1, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	for range 2 {
		if r := old.checkNow(t); r.Level != 2 || len(r.Behind) != 1 {
			t.Errorf("the older agent has changed the record: %+v", r)
		}
	}
	if strings.Count(said.String(), "it is behind the feature level of the namespace; upgrade it") != 1 {
		t.Errorf("the older agent logs:\n%s", said.String())
	}
}

// With three versions the level rises to the lowest that is there, and then on.
func TestThreeVersions(t *testing.T) {
	t.Parallel()
	client := start(t)
	l := newLevel(t, client, 4)
	node(t, client, "a", 4)
	l.checkNow(t)
	node(t, client, "b", 3)
	l.checkNow(t)
	if r := l.checkNow(t); r.Level != 3 || len(r.Behind) != 1 {
		t.Fatalf("%+v", r)
	}
	if r := l.checkNow(t); r.Level != 3 || r.Target != 4 || r.Clean != 0 {
		t.Fatalf("%+v", r)
	}
	node(t, client, "b", 4)
	for range 3 {
		l.checkNow(t)
	}
	if !l.Allows(4) {
		t.Errorf("%+v", stateOf(t, client))
	}
}

// Agents at the level of the namespace leave the record to newer ones, for as long as there are any.
func TestNewerAgentsCheck(t *testing.T) {
	t.Parallel()
	client := start(t)
	put(t, client, keys.Level(), `{"level":2}`)
	two, three := newLevel(t, client, 2), newLevel(t, client, 3)
	node(t, client, "two", 2)
	node(t, client, "three", 3)
	three.checkNow(t)
	if r := two.checkNow(t); r.Target != 3 || len(r.Behind) != 1 || r.Behind[0].Node != "two" {
		t.Errorf("%+v", r)
	}
	remove(t, client, keys.Node("three", "agent"))
	if r := two.checkNow(t); r.Target != 0 || len(r.Behind) != 0 {
		t.Errorf("after the newer one has gone: %+v", r)
	}
}

// One agent checks at a time, and an agent checks nothing at its first read.
func TestOneAgentChecks(t *testing.T) {
	t.Parallel()
	client := start(t)
	a, b := newLevel(t, client, 2), newLevel(t, client, 2)
	refresh := func(l *Level, first bool) int {
		t.Helper()
		if err := l.refresh(etcdtest.Context(t), first); err != nil {
			t.Fatal(err)
		}
		return stateOf(t, client).Clean
	}
	for n, step := range []struct {
		level *Level
		first bool
		want  int
	}{{a, true, 0}, {a, false, 1}, {a, false, 1}, {b, false, 1}} {
		if got := refresh(step.level, step.first); got != step.want {
			t.Errorf("step %d: %d clean checks, want %d", n, got, step.want)
		}
	}
	leases := etcdtest.Must(client.Leases(etcdtest.Context(t))).Leases
	if len(leases) != 1 {
		t.Errorf("%d leases, want that of the turn", len(leases))
	}
	left := etcdtest.Must(client.TimeToLive(etcdtest.Context(t), leases[0].ID))
	if left.GrantedTTL != int64(checkInterval/time.Second) {
		t.Errorf("the turn lasts %d s", left.GrantedTTL)
	}
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

// An agent whose record cannot be read may be of any version. What no agent has written is none.
func TestUnreadableNode(t *testing.T) {
	t.Parallel()
	client := start(t)
	l := newLevel(t, client, 2)
	put(t, client, keys.Nodes()+"no-agent", "junk")
	if r := l.checkNow(t); r.Clean != 1 || len(r.Behind) != 0 {
		t.Errorf("%+v", r)
	}
	put(t, client, keys.Node("n", "agent"), "junk")
	if r := l.checkNow(t); r.Clean != 0 || len(r.Behind) != 1 || r.Behind[0].Node != "n" || r.Behind[0].Agent != "agent" {
		t.Errorf("%+v", r)
	}
}

// The record of a large fleet is small, and all agents count.
func TestManyOlderAgents(t *testing.T) {
	t.Parallel()
	client := start(t)
	for from := 0; from < 1200; from += 100 {
		var ops []clientv3.Op
		for n := from; n < from+100; n++ {
			name := fmt.Sprintf("n%04d", n)
			level := 0
			if n < 1100 {
				level = 2
			}
			ops = append(ops, clientv3.OpPut(keys.Node(name, "agent"), string(discovery.Node{Node: name, Agent: "agent", Level: level}.Encode())))
		}
		if _, err := client.Txn(etcdtest.Context(t)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	r := newLevel(t, client, 2).checkNow(t)
	if r.Level != 1 || r.Clean != 0 || len(r.Behind) != discovery.MaxBehind || r.More != 100-discovery.MaxBehind || r.Behind[0].Node != "n1100" {
		t.Errorf("%+v", r)
	}
}

// An agent that was there in the last day is named after it has gone.
func TestBehindIsForgotten(t *testing.T) {
	t.Parallel()
	l := New(nil, keys, Options{Own: 2})
	now := time.Now()
	old := []discovery.Node{{Node: "old", Agent: "a"}}
	r := l.after(discovery.LevelRecord{Level: 1}, old, now)
	for wait, want := range map[time.Duration]int{rememberedFor - time.Minute: 1, rememberedFor: 0} {
		if got := l.after(r, nil, now.Add(wait)); len(got.Behind) != want {
			t.Errorf("%v later: %+v", wait, got)
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

// Run raises the level, by checks that leases space, and reads it again when etcd has started over.
func TestRun(t *testing.T) {
	t.Parallel()
	client := start(t)
	var mu sync.Mutex
	n, changed := 0, make(chan struct{})
	restart := func(over bool) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			n++
		}
		close(changed)
		changed = make(chan struct{})
	}
	run := func(poll time.Duration, o Options) *Level {
		l := New(client, keys, o)
		l.poll, l.check, l.idle, l.clean = poll, 2*time.Second, 2*time.Second, 2
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		return l
	}
	a := run(50*time.Millisecond, Options{Own: 2})
	retrytest.Eventually(t, "the raise", func() bool { return a.Allows(2) })
	b := run(time.Hour, Options{Own: 2, Changed: func() (int, <-chan struct{}) {
		mu.Lock()
		defer mu.Unlock()
		return n, changed
	}})
	retrytest.Eventually(t, "the first read", func() bool { return b.Allows(2) })
	put(t, client, keys.Level(), `{"level":3}`)
	restart(false)
	restart(true)
	retrytest.Eventually(t, "the read after etcd started over", func() bool { return b.Allows(3) })
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
