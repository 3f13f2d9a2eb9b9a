package lookup

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"disc/discovery"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
	"disc/discovery/view/viewtest"
)

// shop is a catalog with one of each kind that a lookup tells apart.
func shop(t *testing.T) *view.Snapshot {
	t.Helper()
	s, _, broken := view.EmptySnapshot().Apply(50, []view.Change{
		viewtest.Put(1, "web/instances/pass-a", `"port":80,"ports":{"grpc":90},"zone":"a","node":"host-1","tags":["v1","eu"],"meta":{"Team":"core"}`),
		viewtest.Put(2, "web/instances/pass-b", `"port":80,"zone":"b","node":"host-2","tags":["v2"],"meta":{"Team":"core","Tier":""}`),
		viewtest.Put(3, "web/instances/warn-a", `"port":80,"ports":{"GRPC":91},"zone":"a","node":"host-1","tags":["V2"],"status":"warning"`),
		viewtest.Put(4, "web/instances/crit", `"tags":["v2"],"status":"critical"`),
		viewtest.Put(5, "web/static/drain", ``), viewtest.Put(6, "web/overrides/drain", `"state":"drain"`),
		viewtest.Put(7, "web/instances/down", ``), viewtest.Put(8, "web/overrides/down", `"state":"down"`),
		viewtest.Put(9, "web/instances/zero", `"weight":0`),
		viewtest.Put(10, "web/instances/bye", `"leaving":true`),
		viewtest.Put(11, "sick/instances/s1", `"status":"critical"`), viewtest.Put(12, "sick/instances/s2", `"status":"critical"`),
		viewtest.Put(13, "sick/instances/s3", ``), viewtest.Put(14, "sick/instances/s4", ``), viewtest.Put(15, "sick/overrides/s4", `"state":"drain"`),
		viewtest.Put(16, "spare/instances/z1", `"weight":0`), viewtest.Put(17, "spare/instances/z2", `"weight":0`),
		viewtest.Put(18, "gone/instances/g1", ``), viewtest.Delete(19, "gone/instances/g1"),
		viewtest.Put(20, "noted/overrides/x", `"weight":1`),
		viewtest.Put(21, "my.app/instances/dotted", ``), viewtest.Put(22, "app/instances/plain", `"tags":["my"]`),
		viewtest.Put(23, "case/instances/One", ``), viewtest.Put(24, "case/instances/TWO", ``), viewtest.Put(25, "case/instances/two", ``),
		viewtest.Put(30, "nodes/host-1/a1", `"address":"10.0.0.1","zone":"a"`), viewtest.Put(31, "nodes/host-1/a2", `"address":"10.0.0.2"`),
		viewtest.Put(32, "nodes/Host-3/a3", `"address":"10.0.0.3"`), viewtest.Put(33, "nodes/host-4/a4", ``),
		viewtest.Put(34, "nodes/twin/a5", `"address":"10.0.0.5"`), viewtest.Put(35, "nodes/TWIN/a6", `"address":"10.0.0.6"`),
	})
	if broken != nil {
		t.Fatal(broken)
	}
	return s
}

func ids(a Answer) string {
	var all []string
	for _, e := range a.Endpoints {
		all = append(all, e.ID)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func filter(t testing.TB, expression string) Selector {
	t.Helper()
	f, err := ParseFilter(expression)
	if err != nil {
		t.Fatal(err)
	}
	return Selector{Filter: f}
}

func TestLookup(t *testing.T) {
	type out = map[string]int
	rest := func(more out) out { // what a lookup of web leaves out besides
		all := out{"critical": 1, "drain": 1, "down": 1, "leaving": 1, "weight": 1}
		for why, n := range more {
			if all[why] += n; all[why] == 0 {
				delete(all, why)
			}
		}
		return all
	}
	tests := []struct {
		query   Query
		want    string
		leftOut out
	}{
		{Query{Name: "web"}, "pass-a pass-b warn-a", rest(nil)},
		{Query{Name: "WEB.svc"}, "pass-a pass-b warn-a", rest(nil)},
		{Query{Name: "wEb.SvC.dIsC.", Domain: "disc."}, "pass-a pass-b warn-a", rest(nil)},
		{Query{Name: "_web._tcp.svc"}, "pass-a pass-b warn-a", rest(nil)},
		{Query{Name: "web", Status: discovery.StatusPassing}, "pass-a pass-b", rest(out{"warning": 1})},
		{Query{Name: "web", Status: discovery.StatusWarning}, "warn-a", out{"critical": 1, "drain": 1, "down": 1, "leaving": 1, "passing": 3}},
		{Query{Name: "web", Status: discovery.StatusCritical, PanicThreshold: 1}, "crit", out{"warning": 1, "drain": 1, "down": 1, "leaving": 1, "passing": 3}},
		{Query{Name: "web", Status: discovery.StatusAny}, "crit drain pass-a pass-b warn-a zero", out{"down": 1, "leaving": 1}},

		{Query{Name: "web", Selector: Selector{Tags: []string{"v2"}}}, "pass-b warn-a", out{"critical": 1, "leaving": 1, "tag": 4}},
		{Query{Name: "web", Selector: Selector{Tags: []string{"v1", "EU"}}}, "pass-a", out{"leaving": 1, "tag": 6}},
		{Query{Name: "web", Selector: Selector{Tags: []string{"v1", "v2"}}}, "", out{"leaving": 1, "tag": 7}},
		{Query{Name: "v2.web"}, "pass-b warn-a", out{"critical": 1, "leaving": 1, "tag": 4}},
		{Query{Name: "V1.web.svc", Selector: Selector{Tags: []string{"eu"}}}, "pass-a", out{"leaving": 1, "tag": 6}},
		{Query{Name: "web", Selector: Selector{Zone: "a"}}, "pass-a warn-a", out{"leaving": 1, "zone": 5}},
		{Query{Name: "web", Selector: Selector{Node: "host-2"}}, "pass-b", out{"leaving": 1, "node": 6}},
		{Query{Name: "web", Selector: Selector{Meta: map[string]string{"Team": "core"}}}, "pass-a pass-b", out{"leaving": 1, "meta": 5}},
		{Query{Name: "web", Selector: Selector{Meta: map[string]string{"Team": "core", "Tier": ""}}}, "pass-b", out{"leaving": 1, "meta": 6}},
		{Query{Name: "web", Selector: Selector{Meta: map[string]string{"team": "core"}}}, "", out{"leaving": 1, "meta": 7}},
		{Query{Name: "web", Selector: Selector{Port: "grpc"}}, "pass-a warn-a", out{"leaving": 1, "port": 5}},
		{Query{Name: "_gRpC._tcp.web.svc"}, "pass-a warn-a", out{"leaving": 1, "port": 5}},
		{Query{Name: "web", Selector: filter(t, `zone == "b" or "eu" in tags`)}, "pass-a pass-b", out{"leaving": 1, "filter": 5}},
		{Query{Name: "web", Selector: Selector{Tags: []string{"v2"}, Zone: "a"}}, "warn-a", out{"leaving": 1, "tag": 4, "zone": 2}},

		{Query{Name: "sick"}, "s3", out{"critical": 2, "drain": 1}},
		{Query{Name: "sick", PanicThreshold: 0.3}, "s3", out{"critical": 2, "drain": 1}},
		{Query{Name: "sick", PanicThreshold: 0.5}, "s1 s2 s3", out{"drain": 1}},
		{Query{Name: "web", PanicThreshold: 1, Status: discovery.StatusAny}, "crit drain pass-a pass-b warn-a zero", out{"down": 1, "leaving": 1}},
		{Query{Name: "sick", PanicThreshold: 0.5, Selector: filter(t, `id == "s3"`)}, "s3", out{"filter": 3}},

		{Query{Name: "spare"}, "z1 z2", nil},
		{Query{Name: "gone"}, "", nil},
		{Query{Name: "noted"}, "", nil},
		{Query{Name: "my.app"}, "dotted", nil},
		{Query{Name: "MY.App"}, "dotted", nil},
		{Query{Name: "my.app.svc"}, "plain", nil},
		{Query{Name: "my.app.", Domain: "disc"}, "plain", nil},
		{Query{Name: "my.app", StrictName: true}, "plain", nil},
		{Query{Name: "web", StrictName: true}, "pass-a pass-b warn-a", rest(nil)},

		{Query{Name: "pass-a.web.inst"}, "pass-a", nil},
		{Query{Name: "zero.web.inst"}, "zero", nil},
		{Query{Name: "crit.web.inst"}, "", out{"critical": 1}},
		{Query{Name: "drain.web.inst"}, "", out{"drain": 1}},
		{Query{Name: "drain.web.inst", Status: discovery.StatusAny}, "drain", nil},
		{Query{Name: "bye.web.inst"}, "", out{"leaving": 1}},
		{Query{Name: "PASS-A.wEb.INST.disc", Domain: "disc."}, "pass-a", nil},
		{Query{Name: "oNE.case.inst"}, "One", nil},
		{Query{Name: "two.case.inst"}, "two", nil},
		{Query{Name: "TWO.case.inst"}, "TWO", nil},
	}
	s := shop(t)
	for _, tt := range tests {
		t.Run(tt.query.Name, func(t *testing.T) {
			a, err := Lookup(s, tt.query)
			if err != nil {
				t.Errorf("%+v: %v", tt.query, err)
				return
			}
			if ids(a) != tt.want || !reflect.DeepEqual(a.LeftOut, tt.leftOut) || a.Name != tt.query.Name {
				t.Errorf("%+v: %q has %q without %v; want %q without %v", tt.query, a.Name, ids(a), a.LeftOut, tt.want, tt.leftOut)
			}
			if wantPanic := tt.want == "s1 s2 s3"; a.Panic != wantPanic {
				t.Errorf("%+v: panic is %t", tt.query, a.Panic)
			}
		})
	}
}

func TestLookupAnswer(t *testing.T) {
	s, _, _ := view.EmptySnapshot().Apply(41, []view.Change{
		viewtest.WithValue(viewtest.Put(40, "web/instances/web-1", ``), `{"service":"Web","id":"web-1","node":"host-1","address":"10.0.0.5","port":8080,"ports":{"grpc":9090},"zone":"a",`+
			`"tags":["v2"],"meta":{"Team":"core"},"owner":"o","run":"r","slots":2}`),
		viewtest.Put(41, "web/instances/web-2", `"status":"critical"`),
	})
	tests := []struct {
		query Query
		want  string
	}{
		{Query{Name: "web"}, `{"name":"web","service":"Web","revision":41,"endpoints":[{"id":"web-1","node":"host-1","address":"10.0.0.5","port":8080,` +
			`"ports":{"grpc":9090},"zone":"a","weight":1,"tags":["v2"],"meta":{"Team":"core"},"status":"passing"}],"left_out":{"critical":1}}`},
		{Query{Name: "_grpc._tcp.web.svc"}, `{"name":"_grpc._tcp.web.svc","service":"Web","revision":41,"endpoints":[{"id":"web-1","node":"host-1","address":"10.0.0.5","port":9090,` +
			`"ports":{"grpc":9090},"zone":"a","weight":1,"tags":["v2"],"meta":{"Team":"core"},"status":"passing"}],"left_out":{"port":1}}`},
		{Query{Name: "v9.web"}, `{"name":"v9.web","service":"Web","revision":41,"endpoints":[],"left_out":{"tag":2}}`},
	}
	for _, tt := range tests {
		t.Run(tt.query.Name, func(t *testing.T) {
			a, err := Lookup(s, tt.query)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := json.Marshal(a); err != nil || string(got) != tt.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
	drained, _, _ := s.Apply(42, []view.Change{viewtest.Put(42, "web/overrides/web-1", `"state":"drain"`)})
	a, err := Lookup(drained, Query{Name: "web-1.web.inst", Status: discovery.StatusAny})
	if err != nil || len(a.Endpoints) != 1 || a.Endpoints[0].State != discovery.Drain {
		t.Errorf("a drained endpoint: %+v, %v", a, err)
	}
}

func TestLookupNode(t *testing.T) {
	s := shop(t)
	tests := []struct{ name, want string }{
		{"host-1.node", "10.0.0.1 10.0.0.2"},
		{"HOST-1.node.disc.", "10.0.0.1 10.0.0.2"},
		{"host-3.node", "10.0.0.3"},
		{"twin.node", "10.0.0.5"},
		{"TWIN.node", "10.0.0.6"},
		{"Twin.node", ""},   // ambiguous
		{"host-4.node", ""}, // without an address
		{"host.node", ""},
		{"host-1.x.node", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := Lookup(s, Query{Name: tt.name, Domain: "disc."})
			var addresses []string
			for _, e := range a.Endpoints {
				addresses = append(addresses, e.Address)
			}
			if got := strings.Join(addresses, " "); got != tt.want || errors.Is(err, discovery.ErrNotFound) != (tt.want == "") {
				t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
			}
		})
	}
	a, err := Lookup(s, Query{Name: "host-1.node"})
	want := discovery.Endpoint{ID: "a1", Node: "host-1", Address: "10.0.0.1", Zone: "a", Weight: 1, Status: discovery.Passing}
	if err != nil || a.Revision != 35 || !reflect.DeepEqual(a.Endpoints[0], want) {
		t.Errorf("got %+v, %v; want %+v", a, err, want)
	}
}

func TestEntryPort(t *testing.T) {
	e := view.Entry{Instance: discovery.Instance{Ports: discovery.Ports{"grpc": 1, "Admin": 2, "X": 3, "x": 4}}}
	for name, want := range map[string]int{"grpc": 1, "GRPC": 1, "admin": 2, "X": 3, "x": 4, "http": 0, "": 0} {
		t.Run(name, func(t *testing.T) {
			if got := e.NamedPort(name); got != want {
				t.Errorf("port %q is %d, want %d", name, got, want)
			}
		})
	}
	e.Ports = discovery.Ports{"Grpc": 1, "GRPC": 2}
	if got := e.NamedPort("grpc"); got != 0 {
		t.Errorf("port grpc is %d though two match", got)
	}
}

func TestLookupErrors(t *testing.T) {
	s := shop(t)
	tests := []struct {
		query   Query
		kind    error
		message string
	}{
		{Query{Name: "nothing"}, discovery.ErrNotFound, `service "nothing" is not known; see 'disc list'`},
		{Query{Name: "v2.nothing"}, discovery.ErrNotFound, `service "nothing" is not known; see 'disc list'`},
		{Query{Name: "web-9.web.inst"}, discovery.ErrNotFound, `instance "web-9" of service "web" is not known; see 'disc list web'`},
		{Query{Name: "Two.case.inst"}, discovery.ErrNotFound, `instance "Two" of service "case" is not known; see 'disc list case'`},
		{Query{Name: "x.noted.inst"}, discovery.ErrNotFound, `instance "x" of service "noted" is not known; see 'disc list noted'`},
		{Query{Name: "no.node"}, discovery.ErrNotFound, `node "no" is not known; see /v1/nodes`},
		{Query{Name: ""}, discovery.ErrInvalid, `lookup name "": service name is empty; give 1 to 63 letters, digits or - _ .`},
		{Query{Name: "_services._dns-sd._udp.svc"}, discovery.ErrInvalid,
			`lookup name "_services._dns-sd._udp.svc" lists services and has no endpoints; ask /v1/services, or DNS for its PTR records`},
		{Query{Name: "web", Status: "fine"}, discovery.ErrInvalid, `status "fine" is unknown; use passing, warning, critical or any, or leave it out for all that are not critical`},
		{Query{Name: "web", Pick: -1}, discovery.ErrInvalid, `pick -1 is out of range; use 1 to 65536`},
		{Query{Name: "web", PanicThreshold: 1.5}, discovery.ErrInvalid, `panic 1.5 is out of range; use 0 to 1`},
	}
	for _, tt := range tests {
		t.Run(tt.query.Name, func(t *testing.T) {
			if a, err := Lookup(s, tt.query); !errors.Is(err, tt.kind) || err.Error() != tt.message || a.Endpoints != nil {
				t.Errorf("%+v: %+v, %v; want %s", tt.query, a, err, tt.message)
			}
		})
	}
}

func TestLookupExplain(t *testing.T) {
	s := shop(t)
	tests := []struct {
		query Query
		want  []string
	}{
		{Query{Name: "web"}, []string{
			"bye out: its agent deregistered it a moment ago", "crit out: its status is critical", "down out: its state is down",
			"drain out: its state is drain", "pass-a in: its status is passing", "pass-b in: its status is passing",
			"warn-a in: its status is warning", "zero out: its weight is 0 and others are there",
		}},
		{Query{Name: "sick", PanicThreshold: 1}, []string{
			"s1 in: its status is critical, and too few others are healthy", "s2 in: its status is critical, and too few others are healthy",
			"s3 in: its status is passing", "s4 out: its state is drain",
		}},
		{Query{Name: "sick", Status: discovery.StatusAny}, []string{
			"s1 in: its status is critical", "s2 in: its status is critical", "s3 in: its status is passing", "s4 in: its status is passing and its state drain",
		}},
		{Query{Name: "spare", Pick: 1, PreferZone: "a", Selector: filter(t, `id == "z2"`)}, []string{
			"z1 out: its filter does not match", "z2 in: its status is passing",
		}},
		{Query{Name: "s1.sick.inst"}, []string{
			"s1 out: its status is critical", "s2 out: another instance was asked for", "s3 out: another instance was asked for", "s4 out: another instance was asked for",
		}},
		{Query{Name: "v2.app"}, []string{"plain out: its tag does not match"}},
	}
	for _, tt := range tests {
		t.Run(tt.query.Name, func(t *testing.T) {
			tt.query.Explain = true
			a, err := Lookup(s, tt.query)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range a.Explain {
				got = append(got, fmt.Sprintf("%s %s: %s", e.ID, map[bool]string{true: "in", false: "out"}[e.In], e.Why))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%+v:\n%s\nwant\n%s", tt.query, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if a.LeftOut[ExcludedID] != 0 || a.LeftOut[ExcludedPick] != 0 {
				t.Errorf("%+v counts %v", tt.query, a.LeftOut)
			}
		})
	}
	a, err := Lookup(s, Query{Name: "spare", Pick: 1, Explain: true})
	if err != nil || len(a.Endpoints) != 1 || len(a.Explain) != 2 || len(a.LeftOut) != 0 {
		t.Errorf("one of two picked: %+v, %v", a, err)
	}
}

// The reason names the check that gives the status, with what it said, and the override or the static
// entry that matters.
func TestLookupExplainsStatus(t *testing.T) {
	s := viewtest.SnapshotOf([]view.Change{
		viewtest.Put(1, "web/instances/a", `"status":"critical","checks":[{"id":"one","status":"critical"},{"id":"two","name":"disk","status":"critical","output":"98 % full"}]`),
		viewtest.Put(2, "web/instances/b", `"status":"critical","checks":[{"id":"ok","status":"passing"},{"id":"one","status":"critical"}]`),
		viewtest.Put(3, "web/instances/c", `"status":"warning","checks":[{"id":"one","status":"warning","output":"slow"}]`),
		viewtest.Put(4, "web/instances/d", `"status":"critical","checks":[{"id":"a\u001b[31m\u202e","status":"critical","output":"x\n\u009b<b>y`+strings.Repeat("z", 300)+`"}]`),
		viewtest.Put(5, "web/instances/e", `"status":"critical"`), viewtest.Put(6, "web/static/e", ``),
		viewtest.Put(7, "web/instances/f", ``), viewtest.Put(8, "web/overrides/f", `"weight":0`),
		viewtest.Put(9, "web/instances/g", `"tags":["v2"]`), viewtest.Put(10, "web/overrides/g", `"tags":["v1"]`),
	})
	for _, tt := range []struct {
		query Query
		id    string
		want  string
	}{
		{Query{Name: "web"}, "a", `its status is critical; check "disk": 98 % full`},
		{Query{Name: "web"}, "b", `its status is critical; check "one" gives no reason`},
		{Query{Name: "web"}, "c", `its status is warning; check "one": slow`},
		{Query{Name: "web"}, "d", `its status is critical; check "a[31m": x <b>y` + strings.Repeat("z", 250)},
		{Query{Name: "web"}, "e", `its status is critical, and its record hides a static entry that is passing`},
		{Query{Name: "web"}, "f", `its weight is 0, by an override, and others are there`},
		{Query{Name: "web"}, "g", `its status is passing`},
		{Query{Name: "v2.web"}, "g", `its tag, by an override, does not match`},
		{Query{Name: "v2.web"}, "f", `its tag does not match`},
		{Query{Name: "web", PanicThreshold: 1}, "a", `its status is critical, and too few others are healthy; check "disk": 98 % full`},
	} {
		t.Run(tt.query.Name+" "+tt.id, func(t *testing.T) {
			tt.query.Explain = true
			a, err := Lookup(s, tt.query)
			if err != nil {
				t.Fatal(err)
			}
			n := slices.IndexFunc(a.Explain, func(e Explanation) bool { return e.ID == tt.id })
			if n < 0 || a.Explain[n].Why != tt.want {
				t.Errorf("%+v, want %s: %s", a.Explain, tt.id, tt.want)
			}
		})
	}
}

// TestLookupLeavesQuery checks that a lookup does not write to its caller's slices.
func TestLookupLeavesQuery(t *testing.T) {
	tags := make([]string, 1, 8)
	tags[0] = "eu"
	s := shop(t)
	if a, err := Lookup(s, Query{Name: "v1.web", Selector: Selector{Tags: tags}}); err != nil || ids(a) != "pass-a" {
		t.Fatal(a, err)
	}
	if spare := tags[:2]; spare[1] != "" {
		t.Errorf("the caller's tags became %v", spare)
	}
	before := viewtest.Dump(t, s)
	if _, err := Lookup(s, Query{Name: "web", Status: discovery.StatusPassing, Pick: 1}); err != nil {
		t.Fatal(err)
	}
	if viewtest.Dump(t, s) != before {
		t.Error("a lookup changed the snapshot")
	}
}

func TestLookupAllocations(t *testing.T) {
	s := viewtest.SnapshotOf(viewtest.Fleet("web", 0, 10))
	allocs := retrytest.Allocations(100, func() {
		if _, err := Lookup(s, Query{Name: "web"}); err != nil {
			t.Error(err)
		}
	})
	if allocs > 5 {
		t.Errorf("a plain lookup allocates %v times", allocs)
	}
}
