package lookup

import (
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"disc/discovery"
	"disc/discovery/view"
)

// filtered is an entry with a value in each field of filters.
func filtered() *view.Entry {
	return &view.Entry{State: discovery.Drain, Source: view.SourceAgent, Instance: discovery.Instance{
		Service: "Web", ID: "web-1", Node: "host-1", Address: "10.0.0.5", Port: 8080, Ports: discovery.Ports{"grpc": 9090}, Zone: "eu-west", Weight: 3,
		Tags: discovery.Tags{"v2", "canary"}, Meta: discovery.Meta{"team": "core", "a b": "c", "empty": ""}, Status: discovery.Warning, Slots: 2,
	}}
}

func TestFilter(t *testing.T) {
	tests := []struct {
		expression string
		want       bool
	}{
		{``, true},
		{`service == "Web" and id == "web-1" and node == "host-1" and address == "10.0.0.5" and zone == "eu-west"`, true},
		{`port == 8080 and weight == 3 and slots == 2`, true},
		{`status == warning and state == "drain" and source == agent`, true},
		{`weight != 3`, false},
		{`port == "8080"`, true},
		{`meta.team == "core" and "v2" in tags`, true},
		{`"v3" in tags or tags contains "canary"`, true},
		{`"v3" not in tags`, true},
		{`tags is empty`, false},
		{`zone matches "^eu-"`, true},
		{`zone not matches "^us-"`, true},
		{`zone contains "west" and "west" in zone`, true},
		{`not (zone == "eu-west" and weight == 3)`, false},
		{`ports.grpc == 9090`, true},
		{`ports.http == 80`, false},
		{`ports.http != 80`, true},
		{`"grpc" in ports and "http" not in ports`, true},
		{`meta["a b"] == "c"`, true},
		{`"/meta/team" == "core"`, true},
		{`meta.nothing == ""`, false},
		{`meta.nothing != ""`, true},
		{`meta.nothing is empty`, true},
		{`meta.empty is empty`, true},
		{`"team" in meta`, true},
		{`meta is not nil`, true},
		{`any tags as t { t matches "^can" }`, true},
		{`all tags as t { t matches "^can" }`, false},
		{`any tags as i, t { i == 1 and t == "canary" }`, true},
		{`any meta as k { k == "team" }`, true},
		{`any meta as k, v { k == "team" and v == "core" }`, true},
		{`any ports as _, p { p == 9090 }`, true},
		{`(((zone == "eu-west")))`, true},
	}
	for _, tt := range tests {
		t.Run(tt.expression, func(t *testing.T) {
			f, err := ParseFilter(tt.expression)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := f.match(filtered()); got != tt.want || err != nil {
				t.Errorf("%s: %t, %v; want %t", tt.expression, got, err, tt.want)
			}
		})
	}
}

func TestFilterInvalid(t *testing.T) {
	const fields = "address, id, meta, node, port, ports, service, slots, source, state, status, tags, weight, zone"
	tests := []struct{ expression, message string }{
		{`zone ==`, `ends too early`},
		{`zone = "a"`, `cannot be understood from`},
		{`weight > 1`, `cannot be understood from`},
		{`bogus == 1`, `instances have no field "bogus"; use ` + fields},
		{`Zone == "a"`, `instances have no field "Zone"`},
		{`owner == "a"`, `instances have no field "owner"`},
		{`weight != 1 or bogus == 1`, `instances have no field "bogus"`},
		{`weight == 1 and not bogus == 1`, `instances have no field "bogus"`},
		{`"" == a`, `instances have no field ""`},
		{`zone.x == "a"`, `zone is a text and has nothing like zone.x`},
		{`meta.a.b == "a"`, `meta is a map of texts and has nothing like meta.a.b`},
		{`tags.0 == "a"`, `tags is a list of texts and has nothing like tags.0`},
		{`weight == "many"`, `weight is a number, and`},
		{`ports.grpc != x`, `ports.grpc is a number, and`},
		{`zone matches "("`, `is not a regular expression`},
		{`weight matches "1"`, `weight is a number, which "matches" does not apply to`},
		{`weight is empty`, `weight is a number, which "is empty" does not apply to`},
		{`1 in weight`, `weight is a number, which "in" does not apply to`},
		{`tags == "v2"`, `tags is a list of texts, which "equal" does not apply to`},
		{`meta matches "v2"`, `meta is a map of texts, which "matches" does not apply to`},
		{`zone is nil`, `zone is a text, which "is nil" does not apply to`},
		{`any zone as z { z == "a" }`, `zone is a text, which any and all do not apply to`},
		{`any tags as t { u == "a" }`, `instances have no field "u"`},
		{`any tags as zone { zone == "a" }`, `"zone" is a field; choose another name for the elements of tags`},
		{`any meta as k, k { k == "a" }`, `"k" cannot name both the key and the value of meta`},
		{`(any tags as t { t == "a" }) or t == "b"`, `instances have no field "t"`},
		{`any tags as t { all meta as k { k == "a" } }`, `any and all do not nest`},
		{`any ports as _, p { p == "http" }`, `p is a number, and`},
		{strings.Repeat("(", 30) + `zone == a` + strings.Repeat(")", 30), `is nested too deeply; use fewer parentheses`},
		{strings.Repeat(" ", MaxFilter) + `zone == a`, `filter has 1033 bytes; at most 1024 are allowed`},
	}
	for _, tt := range tests {
		t.Run(tt.expression, func(t *testing.T) {
			if _, err := ParseFilter(tt.expression); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("%s: %v; want an ErrInvalid with %s", tt.expression, err, tt.message)
			}
		})
	}
}

// TestFilterFields checks that the table of fields equals the evaluator's.
func TestFilterFields(t *testing.T) {
	types := map[reflect.Type]fieldType{
		reflect.TypeFor[string]():            textField,
		reflect.TypeFor[int]():               numberField,
		reflect.TypeFor[[]string]():          textListField,
		reflect.TypeFor[map[string]string](): textMapField,
		reflect.TypeFor[map[string]int]():    numberMapField,
	}
	fields := map[string]fieldType{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[filterable]()) {
		fields[f.Tag.Get("bexpr")] = types[f.Type]
	}
	if !reflect.DeepEqual(fields, filterFields) {
		t.Errorf("the evaluator sees %v, filterFields are %v", fields, filterFields)
	}
}

func TestFilterConcurrent(t *testing.T) {
	f, err := ParseFilter(`weight == 0 or zone matches "^eu"`)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if !f.Match(filtered()) {
				t.Error("no match")
			}
		})
	}
	all.Wait()
}

// FuzzFilter searches for a filter that is accepted and then fails on an entry.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`zone == "a"`, `meta.team == "core" and "v2" in tags`, `weight != 0 or zone matches "^eu-"`, `not ports.grpc == 1`, `tags is not empty`,
		`any tags as t { t == "v2" }`, `all meta as k, v { k != v }`, `"/meta/a~1b" contains x`, `any ports as p { p != x } or all tags as i, t { i == 0 and t == x }`, `((`,
	} {
		f.Add(seed)
	}
	entries := []*view.Entry{{}, filtered()}
	f.Fuzz(func(t *testing.T, expression string) {
		filter, err := ParseFilter(expression)
		if err != nil {
			if !errors.Is(err, discovery.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		for _, e := range entries {
			if ok, err := filter.match(e); err != nil || ok != filter.Match(e) {
				t.Fatalf("%s on %+v: %t, %v", expression, e, ok, err)
			}
		}
	})
}
