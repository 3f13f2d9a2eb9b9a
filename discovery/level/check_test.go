package level

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

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

// Agents at the level of the namespace leave the record to newer ones, for as long as there are any, but for
// what they know of agents below themselves: a record of a level that no agent has does not hide those.
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
	node(t, client, "one", 1)
	if r := two.checkNow(t); r.Target != 3 || len(r.Behind) != 2 || r.Behind[0].Node != "one" || r.Behind[1].Node != "two" {
		t.Errorf("with an older one: %+v", r)
	}
	remove(t, client, keys.Node("one", "agent"))
	put(t, client, keys.Level(), `{"level":2,"target":3}`)
	remove(t, client, keys.Node("three", "agent"))
	if r := two.checkNow(t); r.Target != 0 || len(r.Behind) != 0 {
		t.Errorf("after the newer one has gone: %+v", r)
	}
}

// An agent takes the turn from those that can read less, and from a key that does not end.
func TestTurns(t *testing.T) {
	t.Parallel()
	client := start(t)
	put(t, client, keys.Level(), `{"level":2}`)
	two, three := newLevel(t, client, 2), newLevel(t, client, 3)
	node(t, client, "two", 2)
	node(t, client, "three", 3)
	for n, step := range []struct {
		level *Level
		want  string
	}{{two, "2"}, {three, "3"}, {two, "3"}, {three, "3"}} {
		before := stateOf(t, client)
		if err := step.level.refresh(etcdtest.Context(t), false); err != nil {
			t.Fatal(err)
		}
		turn := etcdtest.Must(client.Get(etcdtest.Context(t), keys.LevelChecked())).Kvs
		if len(turn) != 1 || string(turn[0].Value) != step.want || turn[0].Lease == 0 {
			t.Errorf("step %d: the turn is %v", n, turn)
		}
		if after := stateOf(t, client); n > 1 && !slices.Equal(after.Encode(), before.Encode()) {
			t.Errorf("step %d: checked in the turn of another", n)
		}
	}
	if r := stateOf(t, client); r.Target != 3 || len(r.Behind) != 1 {
		t.Errorf("the newer agent has not checked: %+v", r)
	}
	put(t, client, keys.LevelChecked(), "9") // a copy
	node(t, client, "two", 3)
	if err := three.refresh(etcdtest.Context(t), false); err != nil {
		t.Fatal(err)
	}
	if r := stateOf(t, client); r.Clean != 1 {
		t.Errorf("a turn without a lease keeps others from checking: %+v", r)
	}
}

// The count of clean checks goes on only while they follow each other, in one life of etcd.
func TestCount(t *testing.T) {
	t.Parallel()
	client := start(t)
	lease := clientv3.WithLease(etcdtest.Must(client.Grant(etcdtest.Context(t), 3600)).ID)
	for name, c := range map[string]struct {
		counting []clientv3.Op
		level    int
		clean    int
	}{
		"after a pause":           {nil, 1, 1},
		"with a copied key":       {[]clientv3.Op{clientv3.OpPut(keys.LevelCounting(), "e")}, 1, 1},
		"in another life of etcd": {[]clientv3.Op{clientv3.OpPut(keys.LevelCounting(), "earlier", lease)}, 1, 1},
		"without a pause":         {[]clientv3.Op{clientv3.OpPut(keys.LevelCounting(), "e", lease)}, 2, 0},
	} {
		remove(t, client, keys.LevelCounting())
		put(t, client, keys.Level(), `{"level":1,"target":2,"clean":2}`)
		if _, err := client.Txn(etcdtest.Context(t)).Then(c.counting...).Commit(); err != nil {
			t.Fatal(err)
		}
		if r := newLevel(t, client, 2).checkNow(t); r.Level != c.level || r.Clean != c.clean {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// The level does not rise past an agent that has come while the records were read.
func TestAgentComesDuringTheCheck(t *testing.T) {
	t.Parallel()
	client := start(t)
	l := newLevel(t, client, 2)
	l.checkNow(t)
	l.checkNow(t)
	s := etcdtest.Must(l.read(etcdtest.Context(t)))
	agents, revision, err := l.readAgents(etcdtest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	node(t, client, "old", 1)
	if err := l.writeCheck(etcdtest.Context(t), s, agents, revision); !errors.Is(err, discovery.ErrConflict) {
		t.Errorf("%v", err)
	}
	if r := stateOf(t, client); r.Level != 1 || l.Allows(2) {
		t.Errorf("%+v", r)
	}
	remove(t, client, keys.Node("old", "agent"))
	if r := l.checkNow(t); r.Level != 2 {
		t.Errorf("after it has gone: %+v", r)
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
	if leases := etcdtest.Must(client.Leases(etcdtest.Context(t))).Leases; len(leases) != 2 {
		t.Errorf("%d leases, want those of the turn and of the count", len(leases))
	}
	for key, want := range map[string]time.Duration{keys.LevelChecked(): checkInterval, keys.LevelCounting(): countingFor} {
		lease := clientv3.LeaseID(etcdtest.Must(client.Get(etcdtest.Context(t), key)).Kvs[0].Lease)
		if left := etcdtest.Must(client.TimeToLive(etcdtest.Context(t), lease)); left.GrantedTTL != int64(want/time.Second) {
			t.Errorf("%s lasts %d s", key, left.GrantedTTL)
		}
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

// A time of a clock that was ahead does not keep an agent named.
func TestSeenInTheFuture(t *testing.T) {
	t.Parallel()
	l := New(nil, keys, Options{Own: 2})
	now := time.Now()
	r := discovery.LevelRecord{Level: 1, Behind: []discovery.BehindAgent{{Node: "old", Agent: "a", Level: 1, Seen: now.Add(1000 * time.Hour)}}}
	r = l.after(r, nil, now)
	if len(r.Behind) != 1 || !r.Behind[0].Seen.Equal(now) {
		t.Fatalf("%+v", r)
	}
	if r = l.after(r, nil, now.Add(rememberedFor)); len(r.Behind) != 0 {
		t.Errorf("a day later: %+v", r)
	}
}

// Only the agent that checks logs that another is behind.
func TestOneAgentLogs(t *testing.T) {
	t.Parallel()
	client := start(t)
	node(t, client, "old", 1)
	var said [2]logs
	for n := range said {
		l := New(client, keys, Options{Own: 2, Logger: slog.New(slog.NewTextHandler(&said[n], nil))})
		for range 2 {
			if err := l.refresh(etcdtest.Context(t), false); err != nil || len(l.State().Record.Behind) != 1 {
				t.Fatalf("%+v, %v", l.State(), err)
			}
		}
		if got := strings.Count(said[n].String(), "an agent is behind"); got != 1-n {
			t.Errorf("agent %d logs it %d times", n, got)
		}
	}
}
