// Package viewtest makes changes and snapshots for the tests of packages that read them.
package viewtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// Put returns a change that writes a value under a key of the form "web/instances/a",
// "web/static/a", "web/overrides/a" or "nodes/host-1/a1". fields are those of the JSON
// value, such as "weight":2, except an address and those that the key gives.
func Put(revision int64, key, fields string) view.Change {
	c := Delete(revision, key)
	value := `{` + fields
	switch c.Key.Kind {
	case discovery.KeyInstance, discovery.KeyStatic:
		value += fmt.Sprintf(`,"service":%q,"id":%q,"address":"10.0.0.5"`, c.Key.Service, c.Key.ID)
	case discovery.KeyNode:
		value += fmt.Sprintf(`,"node":%q`, c.Key.Node)
	}
	c.Value, c.Created = []byte(strings.Replace(value, "{,", "{", 1)+"}"), revision
	return c
}

// Delete returns a change that deletes a key; see [Put].
func Delete(revision int64, key string) view.Change {
	k := discovery.NewKeys("default")
	prefix := k.Services()
	if strings.HasPrefix(key, "nodes/") {
		prefix = k.Prefix()
	}
	return view.Change{Key: k.Parse(prefix + key), Modified: revision}
}

// WithLease returns a change with lease 7.
func WithLease(c view.Change) view.Change {
	c.Lease = 7
	return c
}

// WithValue returns a change with another value.
func WithValue(c view.Change, value string) view.Change {
	c.Value = []byte(value)
	return c
}

// Dump describes everything that readers see of a snapshot, except empty services and
// revisions.
func Dump(t *testing.T, s *view.Snapshot) string {
	t.Helper()
	var b strings.Builder
	for service := range s.Services() {
		if service.Empty() {
			continue
		}
		fmt.Fprintf(&b, "%s %d healthy %d leaving\n", discovery.FoldName(service.Name), service.Healthy(), len(slices.Collect(service.Leaving())))
		for _, e := range service.Entries() {
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "  %s\n", text)
		}
		ids := slices.Collect(maps.Keys(idsIn(service)))
		slices.Sort(ids)
		for _, id := range ids {
			if r, ok := service.Record(id); ok {
				fmt.Fprintf(&b, "  record %s %d %d %d\n", r.Encode(), r.Created, r.Modified, r.Lease)
			}
		}
	}
	for n := range s.Nodes() {
		fmt.Fprintf(&b, "%+v\n", *n)
	}
	return b.String()
}

// idsIn returns the ids of the instances of a service that are shown or leaving.
func idsIn(s *view.Service) map[string]bool {
	ids := map[string]bool{}
	for _, e := range s.Entries() {
		ids[e.ID] = true
	}
	for i := range s.Leaving() {
		ids[i.ID] = true
	}
	return ids
}

// RandomChange returns a change that writes or deletes one of a few keys, at times with a
// value that cannot be decoded.
func RandomChange(r *rand.Rand, revision int64) view.Change {
	service, id := []string{"web", "api", "db"}[r.IntN(3)], []string{"a", "b", "c", "d", "e"}[r.IntN(5)]
	key := fmt.Sprintf("%s/%s/%s", service, []string{"instances", "instances", "static", "overrides", "load"}[r.IntN(5)], id)
	if r.IntN(8) == 0 {
		key = "nodes/host-" + id + "/agent"
	}
	switch r.IntN(10) {
	case 0, 1, 2:
		return Delete(revision, key)
	case 3:
		return WithValue(Put(revision, key, ``), `{"weight":-1,"utilization":-1}`)
	}
	if strings.Contains(key, "/load/") {
		return Put(revision, key, fmt.Sprintf(`"utilization":0.%d`, r.IntN(9)))
	}
	fields := fmt.Sprintf(`"weight":%d`, r.IntN(5))
	if strings.Contains(key, "/overrides/") {
		fields += fmt.Sprintf(`,"state":%q`, []discovery.State{discovery.Up, discovery.Drain, discovery.Down}[r.IntN(3)])
	} else if strings.Contains(key, "/instances/") {
		fields += fmt.Sprintf(`,"status":%q,"leaving":%t,"meta":{"k":"%d"}`, []discovery.Status{discovery.Passing, discovery.Critical}[r.IntN(2)], r.IntN(4) == 0, r.IntN(3))
	}
	return Put(revision, key, fields)
}

// Fleet returns changes that put the instances from, from+1 … of one service, n in all.
func Fleet(service string, from, n int) []view.Change {
	changes := make([]view.Change, 0, n)
	for i := from; i < from+n; i++ {
		instance := typicalInstance(service, i)
		key := discovery.Key{Kind: discovery.KeyInstance, Service: service, ID: instance.ID}
		changes = append(changes, view.Change{Key: key, Value: instance.Encode(), Created: int64(i) + 1, Modified: int64(i) + 1, Lease: 1})
	}
	return changes
}

// SnapshotOf returns the snapshot after changes.
func SnapshotOf(changes []view.Change) *view.Snapshot {
	s, _, _ := view.EmptySnapshot().Apply(int64(len(changes)), changes)
	return s
}

// Services returns a snapshot of so many services, of which the first has 10 instances and
// the others have one.
func Services(services int) *view.Snapshot {
	changes := Fleet("service-0", 0, 10)
	for n := 1; n < services; n++ {
		changes = append(changes, Fleet(fmt.Sprintf("service-%d", n), 0, 1)...)
	}
	return SnapshotOf(changes)
}

// typicalInstance returns an instance whose record has about 330 bytes, as agents write it.
func typicalInstance(service string, n int) discovery.Instance {
	return discovery.Instance{
		Service: service, ID: fmt.Sprintf("%s-%d", service, n), Node: fmt.Sprintf("host-%d", n),
		Address: fmt.Sprintf("10.0.%d.%d", n>>8&255, n&255), Port: 8080, Zone: "eu-west-1a", Weight: 1,
		Tags: discovery.Tags{"v2"}, Meta: discovery.Meta{"Team": "core"}, Status: discovery.Passing,
		Checks: []discovery.CheckStatus{{ID: "http", Type: discovery.CheckHTTP, Status: discovery.Passing}}, Slots: 1,
		Owner: fmt.Sprintf("owner-%016x", n), Run: fmt.Sprintf("run-%016x", n),
		RegisteredAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}
