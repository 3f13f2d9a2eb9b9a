package view_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"disc/discovery"
	"disc/discovery/view"
	"disc/discovery/view/viewtest"
)

// describe returns an event in one line.
func describe(e view.Event) string {
	switch e.Type {
	case view.EventPut:
		return fmt.Sprintf("%d put %s/%s %s", e.Revision, e.Service, e.ID, describeEntry(e.Entry))
	default:
		return fmt.Sprintf("%d delete %s/%s %s", e.Revision, e.Service, e.ID, e.Reason)
	}
}

func describeEntry(e *view.Entry) string {
	s := fmt.Sprintf("%s weight=%d %s %s revision=%d", e.Source, e.Weight, e.Status, e.State, e.Revision)
	if e.Shadowed != nil {
		s += fmt.Sprintf(" shadows weight=%d", e.Shadowed.Weight)
	}
	return s
}

func TestApply(t *testing.T) {
	tests := []struct {
		name    string
		batches [][]view.Change
		events  []string // of the last batch
		entries []string // of web, after it
	}{
		{"a record",
			[][]view.Change{{viewtest.Put(5, "web/instances/a", `"weight":3,"status":"warning"`)}},
			[]string{"5 put web/a agent weight=3 warning up revision=5"},
			[]string{"agent weight=3 warning up revision=5"}},
		{"a static entry",
			[][]view.Change{{viewtest.Put(5, "web/static/a", ``)}},
			[]string{"5 put web/a static weight=1 passing up revision=5"},
			[]string{"static weight=1 passing up revision=5"}},
		{"an override of nothing",
			[][]view.Change{{viewtest.Put(5, "web/overrides/a", `"weight":9`)}}, nil, nil},
		{"an override waits for its record",
			[][]view.Change{{viewtest.Put(5, "web/overrides/a", `"weight":9,"state":"drain"`)}, {viewtest.Put(6, "web/instances/a", ``)}},
			[]string{"6 put web/a agent weight=9 passing drain revision=6"},
			[]string{"agent weight=9 passing drain revision=6"}},
		{"an override after its record",
			[][]view.Change{{viewtest.Put(5, "web/instances/a", ``)}, {viewtest.Put(6, "web/overrides/a", `"weight":9`)}},
			[]string{"6 put web/a agent weight=9 passing up revision=6"},
			[]string{"agent weight=9 passing up revision=6"}},
		{"an override goes",
			[][]view.Change{{viewtest.Put(5, "web/instances/a", ``), viewtest.Put(6, "web/overrides/a", `"weight":9`)}, {viewtest.Delete(7, "web/overrides/a")}},
			[]string{"7 put web/a agent weight=1 passing up revision=5"},
			[]string{"agent weight=1 passing up revision=5"}},
		{"a record shadows a static entry",
			[][]view.Change{{viewtest.Put(5, "web/static/a", `"weight":7`)}, {viewtest.Put(6, "web/instances/a", ``)}},
			[]string{"6 put web/a agent weight=1 passing up revision=6 shadows weight=7"},
			[]string{"agent weight=1 passing up revision=6 shadows weight=7"}},
		{"a static entry comes under a record",
			[][]view.Change{{viewtest.Put(6, "web/instances/a", ``)}, {viewtest.Put(7, "web/static/a", `"weight":7`)}},
			[]string{"7 put web/a agent weight=1 passing up revision=6 shadows weight=7"},
			[]string{"agent weight=1 passing up revision=6 shadows weight=7"}},
		{"a record goes and uncovers the static entry",
			[][]view.Change{{viewtest.Put(5, "web/static/a", `"weight":7`), viewtest.Put(6, "web/instances/a", ``)}, {viewtest.Delete(7, "web/instances/a")}},
			[]string{"7 put web/a static weight=7 passing up revision=5"},
			[]string{"static weight=7 passing up revision=5"}},
		{"a leaving record uncovers the static entry",
			[][]view.Change{{viewtest.Put(5, "web/static/a", `"weight":7`), viewtest.Put(6, "web/instances/a", ``)}, {viewtest.Put(7, "web/instances/a", `"leaving":true`)}},
			[]string{"7 put web/a static weight=7 passing up revision=5"},
			[]string{"static weight=7 passing up revision=5"}},
		{"the same again",
			[][]view.Change{{viewtest.Put(5, "web/instances/a", ``)}, {viewtest.Put(5, "web/instances/a", ``)}}, nil,
			[]string{"agent weight=1 passing up revision=5"}},
		{"sorted by id",
			[][]view.Change{{viewtest.Put(5, "web/instances/b", ``), viewtest.Put(6, "web/instances/a:1", ``), viewtest.Put(7, "web/static/a", ``)}},
			[]string{"5 put web/b agent weight=1 passing up revision=5", "6 put web/a:1 agent weight=1 passing up revision=6", "7 put web/a static weight=1 passing up revision=7"},
			[]string{"static weight=1 passing up revision=7", "agent weight=1 passing up revision=6", "agent weight=1 passing up revision=5"}},
		{"a record that leaves, then lapses",
			[][]view.Change{{viewtest.Put(5, "web/instances/a", ``)}, {viewtest.Put(6, "web/instances/a", `"leaving":true`), viewtest.Delete(7, "web/instances/a")}},
			[]string{"6 delete web/a left"}, nil},
		{"a record seen only leaving",
			[][]view.Change{{viewtest.Put(6, "web/instances/a", `"leaving":true`)}}, nil, nil},
		{"a record comes back from leaving",
			[][]view.Change{{viewtest.Put(6, "web/instances/a", `"leaving":true`)}, {viewtest.Put(7, "web/instances/a", ``)}},
			[]string{"7 put web/a agent weight=1 passing up revision=7"},
			[]string{"agent weight=1 passing up revision=7"}},
		{"what was never seen goes",
			[][]view.Change{{viewtest.Delete(6, "web/instances/a"), viewtest.Delete(6, "nodes/host-1/a1")}}, nil, nil},
		{"other keys",
			[][]view.Change{{{Key: discovery.Key{}, Value: []byte("x"), Modified: 5}}}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := view.EmptySnapshot()
			var events []view.Event
			for _, batch := range tt.batches {
				var broken []discovery.BrokenRecord
				if s, events, broken = s.Apply(100, batch); broken != nil {
					t.Fatal(broken)
				}
			}
			var told, shown []string
			for _, e := range events {
				told = append(told, describe(e))
			}
			if service, ok := s.Service("WEB"); ok {
				for _, e := range service.Entries() {
					shown = append(shown, describeEntry(e))
				}
			}
			if !slices.Equal(told, tt.events) {
				t.Errorf("events:\n%s\nwant:\n%s", strings.Join(told, "\n"), strings.Join(tt.events, "\n"))
			}
			if !slices.Equal(shown, tt.entries) {
				t.Errorf("entries:\n%s\nwant:\n%s", strings.Join(shown, "\n"), strings.Join(tt.entries, "\n"))
			}
		})
	}
}

func TestApplyReasons(t *testing.T) {
	node := viewtest.WithLease(viewtest.Put(1, "nodes/host-1/o1", ``))
	record := viewtest.WithLease(viewtest.Put(2, "web/instances/a", `"node":"host-1","owner":"o1"`))
	later := viewtest.WithLease(viewtest.Put(2, "nodes/host-1/o1", ``)) // after the instance, or again
	apart := viewtest.Delete(3, "web/instances/a")
	apart.Apart = true
	tests := []struct {
		name   string
		before []view.Change
		batch  []view.Change
		want   view.Reason
	}{
		{"its agent says goodbye", []view.Change{node, record}, []view.Change{viewtest.Put(3, "web/instances/a", `"node":"host-1","owner":"o1","leaving":true`)}, view.ReasonLeft},
		{"its agent lives", []view.Change{node, record}, []view.Change{viewtest.Delete(3, "web/instances/a")}, view.ReasonRemoved},
		{"its agent lives, which wrote its own record last", []view.Change{record, later}, []view.Change{viewtest.Delete(3, "web/instances/a")}, view.ReasonRemoved},
		{"its agent's record was older when it was watched apart", []view.Change{node, record}, []view.Change{apart}, view.ReasonExpired},
		{"its agent goes before it in the batch", []view.Change{node, record}, []view.Change{viewtest.Delete(3, "nodes/host-1/o1"), viewtest.Delete(3, "web/instances/a")}, view.ReasonExpired},
		{"its agent goes after it in the batch", []view.Change{node, record}, []view.Change{viewtest.Delete(3, "web/instances/a"), viewtest.Delete(3, "nodes/host-1/o1")}, view.ReasonExpired},
		{"its agent goes and comes back in the batch", []view.Change{node, record},
			[]view.Change{viewtest.Delete(3, "web/instances/a"), viewtest.Delete(3, "nodes/host-1/o1"), viewtest.Put(4, "nodes/host-1/o1", ``)}, view.ReasonExpired},
		{"its agent has a new lease, and has not written it yet", []view.Change{node, record},
			[]view.Change{viewtest.Put(3, "nodes/host-1/o1", ``), viewtest.Delete(3, "web/instances/a")}, view.ReasonExpired},
		{"its agent has a new lease, under which it has written others", []view.Change{node, record},
			[]view.Change{viewtest.Delete(3, "web/instances/a"), viewtest.Put(3, "nodes/host-1/o1", ``)}, view.ReasonExpired},
		{"its agent is under its old lease, and it was under the new one", []view.Change{viewtest.Put(1, "nodes/host-1/o1", ``), record},
			[]view.Change{viewtest.Delete(3, "web/instances/a")}, view.ReasonExpired},
		{"its agent is unknown", []view.Change{record}, []view.Change{viewtest.Delete(3, "web/instances/a")}, view.ReasonExpired},
		{"another agent on its node lives", []view.Change{viewtest.Put(1, "nodes/host-1/o2", ``), record}, []view.Change{viewtest.Delete(3, "web/instances/a")}, view.ReasonExpired},
		{"its record had no lease", []view.Change{viewtest.Put(2, "web/instances/a", ``)}, []view.Change{viewtest.Delete(3, "web/instances/a")}, view.ReasonRemoved},
		{"its record had no lease, and was watched apart", []view.Change{viewtest.Put(2, "web/instances/a", ``)}, []view.Change{apart}, view.ReasonRemoved},
		{"its record becomes unreadable", []view.Change{node, record}, []view.Change{viewtest.WithValue(viewtest.Delete(3, "web/instances/a"), "{")}, view.ReasonRemoved},
		{"a static entry is unset", []view.Change{viewtest.Put(2, "web/static/a", ``)}, []view.Change{viewtest.Delete(3, "web/static/a")}, view.ReasonRemoved},
		{"a static entry's TTL ends", []view.Change{viewtest.WithLease(viewtest.Put(2, "web/static/a", ``))}, []view.Change{viewtest.Delete(3, "web/static/a")}, view.ReasonExpired},
		{"a static entry is unset that a leaving record uncovered", []view.Change{viewtest.Put(2, "web/static/a", ``), viewtest.Put(2, "web/instances/a", `"leaving":true`)},
			[]view.Change{viewtest.Delete(3, "web/static/a")}, view.ReasonRemoved},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _, _ := view.EmptySnapshot().Apply(2, tt.before)
			_, events, _ := s.Apply(3, tt.batch)
			if want := "3 delete web/a " + string(tt.want); len(events) != 1 || describe(events[0]) != want {
				t.Errorf("%s: %+v, want %s", tt.name, events, want)
			}
		})
	}
}

func TestApplyBroken(t *testing.T) {
	s, events, broken := view.EmptySnapshot().Apply(9, []view.Change{
		viewtest.Put(1, "web/instances/a", ``),
		viewtest.WithValue(viewtest.Put(2, "web/instances/b", ``), `{"service":"web"`),
		viewtest.WithValue(viewtest.Put(3, "web/static/c", ``), `{"service":"api","id":"c","address":"a"}`),
		viewtest.WithValue(viewtest.Put(4, "web/instances/d", ``), `{"service":"web","id":"D","address":"a"}`),
		viewtest.WithValue(viewtest.Put(5, "web/overrides/a", ``), `{"state":"off"}`),
		viewtest.WithValue(viewtest.Put(6, "nodes/host-1/a1", ``), `7`),
		viewtest.Put(7, "web/instances/e", ``),
		viewtest.Put(8, "nodes/host-2/a2", ``),
	})
	want := []string{
		"record web/b at revision 2: decode record: unexpected end of JSON input",
		"static entry web/c at revision 3: the record is of api/c: it is under the key of another",
		"record web/d at revision 4: the record is of web/D: it is under the key of another",
		`override web/a at revision 5: state "off" is unknown; use up, drain or down`,
		"node host-1/a1 at revision 6: decode node: json: cannot unmarshal number into Go value of type discovery.Node",
	}
	var got []string
	for _, b := range broken {
		got = append(got, b.Error())
		if !errors.Is(b, discovery.ErrInvalid) {
			t.Errorf("%v is no ErrInvalid", b)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("broken:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if services, instances, nodes := s.Len(); services != 1 || instances != 2 || nodes != 1 || len(events) != 2 {
		t.Errorf("%d services, %d instances, %d nodes, %d events; want 1, 2, 1, 2", services, instances, nodes, len(events))
	}
	// A value that cannot be decoded replaces one that could.
	s, events, _ = s.Apply(10, []view.Change{viewtest.WithValue(viewtest.Put(10, "nodes/host-2/a2", ``), `{}`), viewtest.WithValue(viewtest.Put(10, "web/instances/e", ``), `x`)})
	if _, instances, nodes := s.Len(); instances != 1 || nodes != 0 || len(events) != 1 {
		t.Errorf("%d instances, %d nodes, events %+v", instances, nodes, events)
	}
}

func TestApplyRevisions(t *testing.T) {
	s := view.EmptySnapshot().WithEpoch("e1")
	s, _, _ = s.Apply(9, []view.Change{viewtest.Put(7, "web/instances/a", ``), viewtest.Put(5, "web/instances/b", ``), viewtest.Put(6, "api/instances/a", ``), viewtest.Put(8, "nodes/host-1/a1", ``)})
	revision := func(name string) int64 {
		service, ok := s.Service(name)
		if !ok {
			t.Fatalf("no service %s", name)
		}
		return service.Revision
	}
	if s.Revision() != 9 || s.Epoch() != "e1" || revision("web") != 7 || revision("api") != 6 || s.ServicesRevision() != 7 || s.NodesRevision() != 8 {
		t.Errorf("revisions %d, %s, web %d, api %d, services %d, nodes %d", s.Revision(), s.Epoch(), revision("web"), revision("api"), s.ServicesRevision(), s.NodesRevision())
	}
	s, _, _ = s.Apply(12, []view.Change{viewtest.Delete(11, "web/instances/b")})
	if s.Revision() != 12 || revision("web") != 11 || revision("api") != 6 {
		t.Errorf("after a deletion: %d, web %d, api %d", s.Revision(), revision("web"), revision("api"))
	}
	s, _, _ = s.Apply(20, nil)
	if s.Revision() != 20 || revision("web") != 11 {
		t.Errorf("after nothing: %d, web %d", s.Revision(), revision("web"))
	}
	// A restored etcd continues from an earlier revision.
	s, _, _ = s.Apply(4, []view.Change{viewtest.Put(3, "web/instances/a", ``)})
	if s.Revision() != 4 || revision("web") != 3 || revision("api") != 6 {
		t.Errorf("after a restore: %d, web %d, api %d", s.Revision(), revision("web"), revision("api"))
	}
}

func TestServiceView(t *testing.T) {
	s, _, _ := view.EmptySnapshot().Apply(9, []view.Change{
		viewtest.WithValue(viewtest.Put(1, "web/instances/b", ``), `{"service":"Web","id":"b","address":"a","tags":["v2","v1"],"owner":"o1"}`),
		viewtest.WithValue(viewtest.Put(2, "web/instances/a", ``), `{"service":"WEB","id":"a","address":"a","tags":["v2"],"status":"critical"}`),
		viewtest.Put(3, "web/static/c", `"weight":0`), viewtest.Put(4, "web/overrides/c", `"state":"drain"`),
		viewtest.Put(5, "web/instances/d", `"leaving":true`), viewtest.Put(6, "api/static/x", ``),
	})
	web, ok := s.Service("wEb")
	if !ok || web.Name != "WEB" || web.Healthy() != 1 || !reflect.DeepEqual(web.Tags(), discovery.Tags{"v1", "v2"}) || web.Empty() {
		t.Errorf("web: %t %q, %d healthy, tags %v", ok, web.Name, web.Healthy(), web.Tags())
	}
	if r, ok := web.Record("d"); !ok || !r.Leaving || r.Created != 5 || r.Modified != 5 {
		t.Errorf("record d: %+v, %t", r, ok)
	}
	if r, ok := web.Record("b"); !ok || r.Owner != "o1" {
		t.Errorf("record b: %+v, %t", r, ok)
	}
	if _, ok := web.Record("c"); ok {
		t.Error("static c has a record")
	}
	for id, want := range map[string]bool{"a": true, "c": true, "d": false, "B": false, "": false} {
		if e, ok := web.Entry(id); ok != want || ok && e.ID != id {
			t.Errorf("entry %q: %+v, %t", id, e, ok)
		}
	}
	var names []string
	for service := range s.Services() {
		names = append(names, service.Name)
	}
	if !slices.Equal(names, []string{"api", "WEB"}) {
		t.Errorf("services %v", names)
	}
}

func TestWithoutEmpty(t *testing.T) {
	s, _, _ := view.EmptySnapshot().Apply(9, []view.Change{viewtest.Put(1, "web/instances/a", ``), viewtest.Put(2, "api/instances/a", ``), viewtest.Put(3, "db/overrides/a", ``)})
	s, _, _ = s.Apply(10, []view.Change{viewtest.Delete(10, "web/instances/a")})
	if web, ok := s.Service("web"); !ok || !web.Empty() {
		t.Errorf("web is %t, %+v; want it known", ok, web)
	}
	forgotten := s.WithoutEmpty("Web", "api", "db", "never")
	for name, want := range map[string]bool{"web": false, "api": true, "db": true} {
		t.Run(name, func(t *testing.T) {
			if _, ok := forgotten.Service(name); ok != want {
				t.Errorf("after WithoutEmpty, %s is known: %t", name, ok)
			}
		})
	}
	if _, ok := s.Service("web"); !ok {
		t.Error("WithoutEmpty changed its receiver")
	}
}

func TestNodes(t *testing.T) {
	s, _, _ := view.EmptySnapshot().Apply(9, []view.Change{
		viewtest.WithValue(viewtest.Put(1, "nodes/host-1/b", ``), `{"node":"liar","agent":"liar","address":"10.0.0.1"}`),
		viewtest.Put(2, "nodes/host-1/a", ``), viewtest.Put(3, "nodes/host-10/c", ``), viewtest.Put(4, "nodes/HOST-1/d", ``), viewtest.Put(5, "nodes/host-1.x/e", ``),
	})
	list := func(seq func(func(*discovery.Node) bool)) string {
		var all []string
		for n := range seq {
			all = append(all, n.Node+"/"+n.Agent)
		}
		return strings.Join(all, " ")
	}
	if got, want := list(s.Nodes()), "host-1.x/e HOST-1/d host-1/a host-1/b host-10/c"; got != want {
		t.Errorf("nodes %s, want %s", got, want)
	}
	if got, want := list(s.Node("host-1")), "host-1/a host-1/b"; got != want {
		t.Errorf("host-1 is %s, want %s", got, want)
	}
	if !s.HasAgent("host-1", "a") || s.HasAgent("host-1", "d") || s.HasAgent("host", "a") {
		t.Error("HasAgent is wrong")
	}
	for range s.Nodes() {
		break
	}
}
