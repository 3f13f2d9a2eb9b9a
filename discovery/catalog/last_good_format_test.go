package catalog

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"disc/discovery"
	"disc/discovery/view"
)

// snapshotOf returns a snapshot of a number of instances, in services of ten, and one of each
// other kind of key.
func snapshotOf(instances int) *view.Snapshot {
	var changes []view.Change
	put := func(key discovery.Key, value string) {
		changes = append(changes, view.Change{Key: key, Value: []byte(value), Created: 3, Modified: int64(len(changes) + 4), Lease: 7})
	}
	for n := range instances {
		service, id := fmt.Sprintf("web-%d", n/10), fmt.Sprintf("web-%d", n)
		put(discovery.Key{Kind: discovery.KeyInstance, Service: service, ID: id}, record(service, id))
	}
	changes[0].Suspect = true
	put(discovery.Key{Kind: discovery.KeyOverride, Service: "web-0", ID: "web-1"}, `{"weight":9}`)
	put(discovery.Key{Kind: discovery.KeyStatic, Service: "db", ID: "db"}, record("db", "db"))
	put(discovery.Key{Kind: discovery.KeyNode, Node: "N1", ID: "owner"}, `{"node":"N1","agent":"owner"}`)
	s, _, _ := view.EmptySnapshot().Apply(int64(len(changes)+4), changes)
	return s
}

func TestLastGoodRoundTrip(t *testing.T) {
	t.Parallel()
	s := snapshotOf(20)
	head := lastGoodHeader{Prefix: keys.Prefix(), Revision: s.Revision(), Epoch: "x", Partial: true}
	var b bytes.Buffer
	if err := writeLastGood(&b, head, keys, s); err != nil {
		t.Fatal(err)
	}
	v, err := readLastGood(b.Bytes(), keys)
	if err != nil || v.lastGoodHeader != head {
		t.Fatalf("the head is %+v, %v; want %+v", v.lastGoodHeader, err, head)
	}
	want := slices.Collect(s.Changes())
	if len(want) != 23 || !slices.ContainsFunc(want, func(c view.Change) bool { return c.Suspect }) {
		t.Fatalf("the view has %d changes, and none or no suspect", len(want))
	}
	if !reflect.DeepEqual(v.changes, want) {
		t.Errorf("read %+v\nwant %+v", v.changes, want)
	}
}

// FuzzReadLastGood checks that readLastGood does not crash on any content with a valid
// checksum.
func FuzzReadLastGood(f *testing.F) {
	var b bytes.Buffer
	if err := writeLastGood(&b, lastGoodHeader{Prefix: keys.Prefix()}, keys, snapshotOf(1)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes()[:b.Len()-sha256.Size])
	f.Add([]byte(lastGoodFormat))
	f.Fuzz(func(t *testing.T, content []byte) {
		sum := sha256.Sum256(content)
		if v, err := readLastGood(append(content, sum[:]...), keys); err != nil && v.changes != nil {
			t.Errorf("%d changes beside %v", len(v.changes), err)
		}
	})
}

func BenchmarkReadLastGood(b *testing.B) {
	var saved bytes.Buffer
	if err := writeLastGood(&saved, lastGoodHeader{Prefix: keys.Prefix()}, keys, snapshotOf(10_000)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readLastGood(saved.Bytes(), keys); err != nil {
			b.Fatal(err)
		}
	}
}
