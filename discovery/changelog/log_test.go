package changelog

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"disc/discovery"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func entry(n int) Entry {
	return Entry{
		Revision: int64(n), Seen: noon.Add(time.Duration(n) * time.Second), Service: fmt.Sprint("s", n%3), ID: fmt.Sprint("i", n),
		Kind: discovery.ChangeChanged, Reason: discovery.ReasonCheck, Detail: strings.Repeat("x", n%50),
		Fields: []discovery.FieldChange{{Field: "status", From: "passing", To: "critical"}},
	}
}

func read(t *testing.T, l *Log, q Query) Page {
	t.Helper()
	p, err := l.Read(q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A log is within its bound, by its own account and by that of the runtime, and holds the newest
// changes without a gap.
func TestBound(t *testing.T) {
	const size, n = 1 << 20, 100_000
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	l := New(size)
	for i := 1; i <= n; i++ {
		l.Add(entry(i))
		if bytes, _ := l.Size(); bytes > size {
			t.Fatalf("%d bytes after %d changes", bytes, i)
		}
	}
	taken := heap() - before
	bytes, entries := l.Size()
	if taken > size+size/8 || bytes < size/2 {
		t.Errorf("the log takes %d bytes of the heap, and says %d; its bound is %d", taken, bytes, size)
	}
	p := read(t, l, Query{})
	if int64(len(p.Changes)) != entries || entries < size/256 {
		t.Fatalf("%d changes are read, and %d are there", len(p.Changes), entries)
	}
	for i, c := range p.Changes {
		if want := int64(n - len(p.Changes) + 1 + i); c.Revision != want {
			t.Fatalf("change %d is of revision %d, not %d", i, c.Revision, want)
		}
	}
	if want := p.Changes[0].Revision - 1; p.Begins == nil || !p.Begins.Dropped || p.Begins.Revision != want {
		t.Errorf("it begins at %+v, not at revision %d", p.Begins, want)
	}
	runtime.KeepAlive(l)
}

// A log without changes costs little, and none costs nothing.
func TestEmpty(t *testing.T) {
	l := New(1 << 20)
	l.Watch("", 7, noon)
	if bytes, entries := l.Size(); bytes > firstChunk || entries != 1 {
		t.Errorf("%d bytes for %d entries", bytes, entries)
	}
	if l := New(0); l != nil {
		t.Error("a log of no bytes")
	}
	var none *Log
	none.Watch("", 1, noon)
	none.Add(entry(1))
	if p := read(t, none, Query{}); p.Begins != nil || len(p.Changes) != 0 {
		t.Errorf("%+v", p)
	}
}

func TestSelect(t *testing.T) {
	l := New(1 << 20)
	l.Watch("", 0, noon)
	for i := 1; i <= 30; i++ {
		l.Add(entry(i))
	}
	for _, test := range []struct {
		name  string
		query Query
		first int64
		last  int64
		count int
		more  bool
	}{
		{"all", Query{}, 0, 30, 31, false},
		{"the newest", Query{Limit: 5}, 26, 30, 5, true},
		{"a service", Query{Service: "S1"}, 0, 28, 11, false},
		{"an instance", Query{Service: "s1", ID: "i4"}, 0, 4, 2, false},
		{"since", Query{Since: noon.Add(29 * time.Second)}, 29, 30, 2, false},
		{"until", Query{Until: noon.Add(2 * time.Second)}, 0, 2, 3, false},
		{"before", Query{Before: l.cursor(11), Limit: 3}, 7, 9, 3, true},
		{"after", Query{After: l.cursor(11), Limit: 3}, 11, 13, 3, true},
		{"after all", Query{After: l.cursor(31)}, 0, 0, 0, false},
		{"before all", Query{Before: l.cursor(1)}, 0, 0, 0, false},
		{"after what never was", Query{After: l.cursor(math.MaxInt64)}, 0, 0, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := read(t, l, test.query)
			if len(p.Changes) != test.count || p.More != test.more || p.End != l.cursor(31) || !p.Watched {
				t.Fatalf("%d changes, %+v", len(p.Changes), p)
			}
			if n := test.count; n > 0 && (p.Changes[0].Revision != test.first || p.Changes[n-1].Revision != test.last) {
				t.Errorf("%+v", p.Changes)
			}
			if p.Begins == nil || p.Begins.Revision != 0 || p.Begins.Dropped {
				t.Errorf("it begins at %+v", p.Begins)
			}
		})
	}
	if _, err := l.Read(Query{Before: New(1).cursor(3)}); err == nil {
		t.Error("a cursor of another log is taken")
	}
}

// A service that is watched later than others begins later, and says when it is not watched.
func TestServicesBeginApart(t *testing.T) {
	l := New(1 << 20)
	l.Watch("Web", 5, noon)
	l.Add(Entry{Revision: 6, Seen: noon, Kind: discovery.ChangeGap})
	l.Watch("api", 7, noon)
	if p := read(t, l, Query{Service: "api"}); p.Begins == nil || p.Begins.Revision != 7 {
		t.Errorf("api begins at %+v", p.Begins)
	}
	if p := read(t, l, Query{Service: "other"}); p.Begins != nil || p.Watched {
		t.Errorf("a service that nobody watches: %+v", p)
	}
	l.Narrow(map[string]bool{"api": true}, nil, 8, noon)
	p := read(t, l, Query{Service: "web"})
	if last := p.Changes[len(p.Changes)-1]; p.Watched || last.Change != discovery.ChangeUnwatched || p.Begins.Revision != 5 {
		t.Errorf("%+v", p)
	}
}

// Hostile values are cut where a character ends, and the change says so.
func TestCut(t *testing.T) {
	l := New(1 << 20)
	e := entry(1)
	e.Fields = nil
	for range 2 * maxFields {
		e.Fields = append(e.Fields, discovery.FieldChange{Field: strings.Repeat("ü", 500), To: strings.Repeat("ü", 5000)})
	}
	l.Add(e)
	c := read(t, l, Query{}).Changes[0]
	if !c.Cut || len(c.Fields) != maxFields || c.Fields[0].To != strings.Repeat("ü", maxValue/2) {
		t.Errorf("%+v", c)
	}
}

// A reader that follows a full log pays for what is new, and not for what it has. It is told where the
// changes begin if it missed some.
func TestFollow(t *testing.T) {
	l := New(1 << 20)
	for i := 1; i <= 100_000; i++ {
		l.Add(entry(i))
	}
	end := read(t, l, Query{Limit: 1}).End
	l.Add(entry(100_001), entry(100_002), entry(100_003))
	if p := read(t, l, Query{Service: "s2", After: l.cursor(7), Follow: true}); !p.Skipped || p.Begins == nil {
		t.Errorf("%t %+v", p.Skipped, p.Begins)
	}
	for n := range len(l.chunks) - 1 {
		l.chunks[n].data = []byte{1, 255} // nobody can read that
	}
	for service, want := range map[string]int{"": 3, "quiet": 0, "s2": 1} {
		if p := read(t, l, Query{Service: service, After: end, Follow: true}); len(p.Changes) != want || p.Skipped {
			t.Errorf("%d new changes of %q, %t", len(p.Changes), service, p.Skipped)
		}
	}
}

// An etcd that comes and goes all day leaves one gap until something changes, from the first time that
// it went. Readers that follow see each, and one that reads meanwhile keeps what it got.
func TestGapsInARow(t *testing.T) {
	l := New(1 << 20)
	l.Add(entry(1))
	gap := func(n int) Entry {
		at := noon.Add(time.Duration(n) * time.Minute)
		return Entry{Revision: int64(n), Seen: at, Since: at.Add(-time.Second), Kind: discovery.ChangeGap}
	}
	l.Add(gap(1))
	kept := l.chunks[0].data
	copied := string(kept)
	for n := 2; n <= 10_000; n++ {
		l.Add(gap(n))
	}
	p := read(t, l, Query{})
	if len(p.Changes) != 2 || p.Changes[1].Revision != 10_000 || !p.Changes[1].Since.Equal(gap(1).Since) || p.Changes[1].Cursor != p.End {
		t.Fatalf("%d changes, the last is %+v", len(p.Changes), p.Changes[len(p.Changes)-1])
	}
	if bytes, entries := l.Size(); bytes > 32<<10 || entries != 2 {
		t.Errorf("%d bytes, %d entries", bytes, entries)
	}
	if string(kept) != copied {
		t.Error("what a reader has changed")
	}
	l.Add(entry(2), gap(10_001))
	if p := read(t, l, Query{After: p.End}); len(p.Changes) != 2 || !p.Changes[1].Since.Equal(gap(10_001).Since) {
		t.Errorf("%+v", p.Changes)
	}
	if p := read(t, l, Query{Service: "s1", ID: "i1"}); len(p.Changes) != 3 {
		t.Errorf("%+v", p.Changes)
	}
}
