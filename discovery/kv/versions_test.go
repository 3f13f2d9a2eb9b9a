package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// versions returns a history as "5=a", or "5 deleted", newest first, and what is older.
func (f *fixture) versions(key string, o HistoryOptions) string {
	f.t.Helper()
	if o.Max == 0 {
		o.Max = MaxVersions
	}
	h, _, err := f.History(f.t.Context(), key, o)
	if err != nil {
		f.t.Fatal(err)
	}
	var all []string
	for _, v := range h.Versions {
		if v.Key != key {
			f.t.Errorf("version %d is of key %q", v.Revision, v.Key)
		}
		switch v.Number {
		case 0:
			all = append(all, fmt.Sprintf("%d deleted", v.Revision))
		default:
			all = append(all, fmt.Sprintf("%d=%s", v.Revision, v.Value))
		}
	}
	return strings.Join(append(all, string(h.Older)), ", ")
}

func (f *fixture) del(key string) int64 {
	f.t.Helper()
	revision, err := f.Write(f.t.Context(), Op{Key: key, Delete: true})
	if err != nil {
		f.t.Fatal(err)
	}
	return revision
}

// pass makes n revisions that do not concern the key of a test.
func (f *fixture) pass(n int) {
	f.t.Helper()
	for range n {
		f.put("app/other", "x")
	}
}

func (f *fixture) compact(revision int64) {
	f.t.Helper()
	if _, err := f.etcd.Compact(f.t.Context(), revision); err != nil {
		f.t.Fatal(err)
	}
}

func startHistory(t *testing.T) *fixture {
	t.Parallel()
	s := etcdtest.Start(t)
	return start(t, s.Endpoint(), s.Endpoint(), Options{})
}

func TestHistory(t *testing.T) {
	f := startHistory(t)
	f.pass(3)
	a := f.put("app/a", "1")
	f.pass(2)
	b := f.put("app/a", "2")
	f.put("app/ab", "another key")
	c := f.put("app/a", "")
	f.pass(1)
	if got, want := f.versions("app/a", HistoryOptions{}), fmt.Sprintf("%d=, %d=2, %d=1, none_found", c, b, a); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := f.versions("app/a", HistoryOptions{Max: 2}), fmt.Sprintf("%d=, %d=2, more", c, b); got != want {
		t.Errorf("two: got %s, want %s", got, want)
	}
	if got, want := f.versions("app/a", HistoryOptions{From: c - 1}), fmt.Sprintf("%d=2, %d=1, none_found", b, a); got != want {
		t.Errorf("from a revision: got %s, want %s", got, want)
	}
	h, fresh, err := f.History(t.Context(), "app/a", HistoryOptions{Max: 1})
	if v := h.Versions[0]; err != nil || v.Created != a || v.Number != 3 || v.Value == nil || fresh.Revision != c+1 || fresh.Index != c {
		t.Errorf("%+v, %+v, %v", h, fresh, err)
	}
	f.compact(b)
	if got, want := f.versions("app/a", HistoryOptions{}), fmt.Sprintf("%d=, %d=2, compacted", c, b); got != want {
		t.Errorf("compacted: got %s, want %s", got, want)
	}
	f.compact(c)
	if got, want := f.versions("app/a", HistoryOptions{}), fmt.Sprintf("%d=, compacted", c); got != want {
		t.Errorf("all but one compacted: got %s, want %s", got, want)
	}
}

// The history goes on before a deletion, and starts at one, where it finds an earlier life.
func TestHistoryOfDeletedKey(t *testing.T) {
	f := startHistory(t)
	f.pass(5)
	a := f.put("app/a", "1")
	f.pass(3)
	b := f.put("app/a", "2")
	f.pass(20)
	c := f.del("app/a")
	f.pass(17)
	first := fmt.Sprintf("%d deleted, %d=2, %d=1, none_found", c, b, a)
	if got := f.versions("app/a", HistoryOptions{}); got != first {
		t.Errorf("deleted: got %s, want %s", got, first)
	}
	d := f.put("app/a", "3")
	if got, want := f.versions("app/a", HistoryOptions{}), fmt.Sprintf("%d=3, ", d)+first; got != want {
		t.Errorf("created again: got %s, want %s", got, want)
	}
	e := f.del("app/a")
	g := f.put("app/a", "4")
	if got, want := f.versions("app/a", HistoryOptions{}), fmt.Sprintf("%d=4, %d deleted, %d=3, ", g, e, d)+first; got != want {
		t.Errorf("created twice: got %s, want %s", got, want)
	}
	if got := f.versions("app/a", HistoryOptions{From: c + 9}); got != first {
		t.Errorf("from when it was deleted: got %s, want %s", got, first)
	}
}

// A life that is short against the time since is found where etcd keeps the beginning of its
// revisions from that life.
func TestHistoryOfDeletedKeyAfterCompaction(t *testing.T) {
	f := startHistory(t)
	a := f.put("app/a", "1")
	f.pass(100)
	f.compact(a + 100)
	b := f.del("app/a")
	f.pass(200)
	if got, want := f.versions("app/a", HistoryOptions{}), fmt.Sprintf("%d deleted, %d=1, none_found", b, a); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	f.compact(b)
	_, _, err := f.History(t.Context(), "app/a", HistoryOptions{Max: 1})
	if want := fmt.Sprintf(`no earlier version was found in the revisions that etcd keeps, from %d on`, b); !errors.Is(err, discovery.ErrNotFound) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// A life that the search misses is found from a revision at which the key was there.
func TestHistoryFromKnownRevision(t *testing.T) {
	f := startHistory(t)
	f.pass(300)
	a := f.put("app/a", "1")
	b := f.del("app/a")
	f.pass(200)
	_, _, err := f.History(t.Context(), "app/a", HistoryOptions{Max: 9})
	if !errors.Is(err, discovery.ErrNotFound) || !strings.Contains(err.Error(), "give a revision at which the key was there") {
		t.Fatalf("%v; the search was not to find revision %d", err, a)
	}
	if got, want := f.versions("app/a", HistoryOptions{From: a}), fmt.Sprintf("%d=1, none_found", a); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := f.versions("app/a", HistoryOptions{From: b}), fmt.Sprintf("%d deleted, %d=1, none_found", b, a); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	f := startHistory(t)
	const size = MaxValue
	for n := range 18 {
		f.put("app/a", strings.Repeat("x", size-n))
	}
	h, _, err := f.History(t.Context(), "app/a", HistoryOptions{Max: MaxVersions})
	if err != nil || h.Older != OlderMore || len(h.Versions) != maxHistoryBytes/size {
		t.Errorf("%d versions, %s, %v", len(h.Versions), h.Older, err)
	}
}

func TestHistoryOfExpiringKey(t *testing.T) {
	f := startHistory(t)
	a, err := f.Write(t.Context(), Op{Key: "app/a", Value: []byte("1"), TTL: MaxTTL})
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := f.History(t.Context(), "app/a", HistoryOptions{Max: 1})
	if err != nil || h.Versions[0].ExpiresIn <= MaxTTL/2 || h.Versions[0].ExpiresIn > MaxTTL || h.Versions[0].Lease == 0 {
		t.Errorf("%+v, %v", h, err)
	}
	if h, _, err = f.History(t.Context(), "app/a", HistoryOptions{From: a, Max: 1}); err != nil || h.Versions[0].ExpiresIn != 0 || h.Versions[0].Lease == 0 {
		t.Errorf("an earlier version expires in nothing: %+v, %v", h, err)
	}
	if _, err := f.etcd.Revoke(t.Context(), h.Versions[0].Lease); err != nil { // as etcd does when it expires
		t.Fatal(err)
	}
	if got, want := f.versions("app/a", HistoryOptions{}), fmt.Sprintf("%d deleted, %d=1, none_found", a+1, a); got != want {
		t.Errorf("expired: got %s, want %s", got, want)
	}
}

// Any sequence of lives ends up in a history without an invented version, and the present
// life is there whole.
func TestHistoryAgainstWrites(t *testing.T) {
	f := startHistory(t)
	type write struct {
		revision int64
		text     string
	}
	var all []write
	present := 0 // index of the write that created the key
	random := rand.New(rand.NewPCG(1, 2))
	for range 120 {
		f.pass(random.IntN(4))
		if len(all) > 0 && !strings.HasSuffix(all[len(all)-1].text, "deleted") && random.IntN(3) == 0 {
			revision := f.del("app/a")
			all = append(all, write{revision, fmt.Sprintf("%d deleted", revision)})
			present = len(all)
			continue
		}
		revision := f.put("app/a", "v")
		all = append(all, write{revision, fmt.Sprintf("%d=v", revision)})
	}
	for range 40 {
		from := 1 + random.Int64N(all[len(all)-1].revision)
		_, _, err := f.History(t.Context(), "app/a", HistoryOptions{From: from, Max: 1})
		if errors.Is(err, discovery.ErrNotFound) {
			continue
		}
		got := strings.Split(f.versions("app/a", HistoryOptions{From: from}), ", ")
		at := len(all)
		for _, text := range got[:len(got)-1] {
			n := slices.IndexFunc(all[:at], func(w write) bool { return w.text == text })
			if n < 0 {
				t.Fatalf("from %d: %q of %v is not among the writes, in order: %v", from, text, got, all)
			}
			at = n
		}
	}
	got := f.versions("app/a", HistoryOptions{})
	for _, w := range all[present:] {
		if !strings.Contains(got, w.text) {
			t.Errorf("%s lacks %s", got, w.text)
		}
	}
}

func TestGetAt(t *testing.T) {
	f := startHistory(t)
	f.pass(2)
	a := f.put("app/a", "1")
	f.pass(2)
	b := f.put("app/a", "2")
	for revision, want := range map[int64]string{a: "1", a + 2: "1", b: "2"} {
		i, fresh, err := f.GetAt(t.Context(), "app/a", revision)
		if err != nil || string(i.Value) != want || i.Key != "app/a" || fresh.Revision != b || fresh.Index != i.Revision {
			t.Errorf("at %d: %+v, %+v, %v", revision, i, fresh, err)
		}
	}
	f.compact(a)
	for _, tt := range []struct {
		revision int64
		kind     error
		want     string
	}{
		{a - 1, discovery.ErrNotFound, fmt.Sprintf(`key "app/b" at revision %d: etcd has compacted this revision`, a-1)},
		{a, discovery.ErrNotFound, fmt.Sprintf(`key "app/b" was not there at revision %d`, a)},
		{b + 1, discovery.ErrInvalid, fmt.Sprintf(`key "app/b" at revision %d: etcd is at revision %d only`, b+1, b)},
		{0, discovery.ErrInvalid, "0 is not a revision of etcd"},
		{-1, discovery.ErrInvalid, "-1 is not a revision of etcd"},
	} {
		_, fresh, err := f.GetAt(t.Context(), "app/b", tt.revision)
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || (fresh.Revision == b) != (tt.revision > 0) {
			t.Errorf("at %d: %v, %+v, want %s", tt.revision, err, fresh, tt.want)
		}
		_, freshOfHistory, ofHistory := f.History(t.Context(), "app/b", HistoryOptions{From: tt.revision, Max: 1})
		if tt.revision != 0 && (!errors.Is(ofHistory, tt.kind) || !strings.Contains(ofHistory.Error(), tt.want) || (freshOfHistory.Revision == b) != (tt.revision > 0)) {
			t.Errorf("history from %d: %v, want %s", tt.revision, ofHistory, tt.want)
		}
	}
	if _, _, err := f.GetAt(t.Context(), "app//b", 1); !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestBadHistory(t *testing.T) {
	f := startHistory(t)
	for _, o := range []HistoryOptions{{Max: 0}, {Max: MaxVersions + 1}, {Max: 1, From: -1}} {
		if _, _, err := f.History(t.Context(), "app/a", o); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, _, err := f.History(t.Context(), "app/", HistoryOptions{Max: 1}); !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestRollback(t *testing.T) {
	f := startHistory(t)
	a := f.put("app/a", "1")
	b := f.put("app/a", "2")
	done, err := f.Rollback(t.Context(), "app/a", a, RollbackOptions{})
	if err != nil || done.Restored.Revision != a || done.Replaced.Revision != b || done.Revision != b+1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if got := f.get("app/a", Read{Linearizable: true}); string(got.Value) != "1" || got.Revision != done.Revision || got.Created != a || got.Lease != 0 {
		t.Errorf("%+v", got)
	}
	c := f.del("app/a")
	if done, err = f.Rollback(t.Context(), "app/a", b, RollbackOptions{TTL: MaxTTL}); err != nil || done.Replaced.Revision != 0 || done.Revision != c+1 {
		t.Errorf("of a deleted key: %+v, %v", done, err)
	}
	if got := f.get("app/a", Read{Linearizable: true}); string(got.Value) != "2" || got.Lease == 0 {
		t.Errorf("%+v", got)
	}
	last := done.Revision
	for _, tt := range []struct {
		name     string
		revision int64
		o        RollbackOptions
		kind     error
		want     string
	}{
		{"another revision", a, RollbackOptions{If: &b}, discovery.ErrConflict, fmt.Sprintf("is at revision %d; nothing was written", last)},
		{"must not exist", a, RollbackOptions{If: new(int64)}, discovery.ErrConflict, fmt.Sprintf("is at revision %d", last)},
		{"was not there", c, RollbackOptions{}, discovery.ErrNotFound, "so there is no value to write; to delete the key, use 'disc kv del app/a'"},
		{"future", last + 1, RollbackOptions{}, discovery.ErrInvalid, "etcd is at revision"},
		{"no revision", 0, RollbackOptions{}, discovery.ErrInvalid, "not a revision"},
		{"bad ttl", a, RollbackOptions{TTL: 1}, discovery.ErrInvalid, "ttl"},
	} {
		if _, err := f.Rollback(t.Context(), "app/a", tt.revision, tt.o); !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	if got := f.get("app/a", Read{Linearizable: true}); got.Revision != last {
		t.Errorf("something was written: %+v", got)
	}
}

// interloper writes a key between the reads and the write of a rollback.
type interloper struct {
	clientv3.KV
	write func()
}

func (i *interloper) Txn(ctx context.Context) clientv3.Txn {
	i.write()
	return i.KV.Txn(ctx)
}

// A write that comes between a rollback's reads and its write makes it fail.
func TestRollbackConflict(t *testing.T) {
	f := startHistory(t)
	a := f.put("app/a", "1")
	f.put("app/a", "2")
	gone := f.put("app/b", "1")
	f.del("app/b")
	for key, revision := range map[string]int64{"app/a": a, "app/b": gone} {
		client := etcdtest.Client(t, f.etcd.Endpoints()[0])
		var written int64
		client.KV = &interloper{client.KV, func() { written = f.put(key, "another's") }}
		s := etcdtest.Must(New(client, discovery.NewKeys("test"), Options{}))
		_, err := s.Rollback(t.Context(), key, revision, RollbackOptions{})
		if unmet := (*ConditionError)(nil); !errors.As(err, &unmet) || unmet.Revision != written {
			t.Errorf("%s: %v", key, err)
		}
		if got := f.get(key, Read{Linearizable: true}); string(got.Value) != "another's" {
			t.Errorf("%s: %+v", key, got)
		}
	}
}
