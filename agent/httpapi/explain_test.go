package httpapi

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// With ?explain an answer says what it comes from, and without it does not.
func TestExplainSaysWhatAnswered(t *testing.T) {
	f := withWebs(2)
	f.update(func() { f.view.Confirmed = 9 })
	s := serve(t, f.api(t, Options{}))
	for _, tt := range []struct {
		name string
		path string
		edit func(*view.View)
		want lookup.Answered
	}{
		{"the whole namespace", "web?explain", nil, lookup.Answered{From: lookup.FromWatch, Prepared: true}},
		{"also true", "web?explain=true&index=0&wait=1s", nil, lookup.Answered{From: lookup.FromWatch, Prepared: true}},
		{"a tag", "web?explain&tag=v2", nil, lookup.Answered{From: lookup.FromWatch}},
		{"another case", "WEB?explain", nil, lookup.Answered{From: lookup.FromWatch}},
		{"a tag in the name", "v2.web?explain", nil, lookup.Answered{From: lookup.FromWatch}},
		{"some services", "web?explain", func(v *view.View) { v.Partial = true }, lookup.Answered{From: lookup.FromInterest, Prepared: true}},
		{"an old view", "web?explain", func(v *view.View) { v.Stale = true }, lookup.Answered{From: lookup.FromWatch, Prepared: true, Stale: true}},
		{"the last good one", "web?explain", func(v *view.View) { v.Stale, v.Partial, v.Restored = true, true, true },
			lookup.Answered{From: lookup.FromLastGood, Prepared: true, Stale: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := s.in(t)
			f.update(func() {
				f.view.Stale, f.view.Partial, f.view.Restored = false, false, false
				if tt.edit != nil {
					tt.edit(&f.view)
				}
			})
			tt.want.Revision, tt.want.Age = 9, discovery.Duration(1500*time.Millisecond)
			var got lookup.Answer
			if err := json.Unmarshal([]byte(s.want("GET /v1/lookup/"+tt.path, "", 200).body), &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Answered, &tt.want) || len(got.Explain) != 2 {
				t.Errorf("%+v of %+v, want %+v", got.Answered, got, tt.want)
			}
		})
	}
	answer, _, err := s.Lookup(t.Context(), "web", api.LookupOptions{})
	if err != nil || answer.Answered != nil {
		t.Errorf("without ?explain: %+v, %v", answer.Answered, err)
	}
	_, first, err := s.Lookup(t.Context(), "web", api.LookupOptions{Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	f.update(func() { f.view.Age, f.view.Confirmed = time.Second, 10 })
	if _, second, err := s.Lookup(t.Context(), "web", api.LookupOptions{Explain: true}); err != nil || second.ETag != first.ETag {
		t.Errorf("the tag covers the age: %+v, %+v, %v", first, second, err)
	}
}

// With ?explain an unknown name has the nearest ones, and what the agent may not know.
func TestExplainUnknownName(t *testing.T) {
	f := withWebs(2)
	for _, name := range []string{"webapp", "billing", "my.app", "wet", "webs"} {
		f.put(discovery.Instance{Service: name, ID: "one", Address: "10.0.0.1", Weight: 1, Slots: 1, Status: discovery.Passing})
	}
	f.putNode(discovery.Node{Node: "host-1", Agent: "one", Address: "10.0.0.1"})
	f.putNode(discovery.Node{Node: "host-2", Agent: "two"})
	f.update(func() { f.emptyNames = []string{"loads"} })
	s := serve(t, f.api(t, Options{}))
	stale, listed := func() { f.view.Stale = true }, func() { f.namesMissing = errors.New("not all are watched") }
	unread := func() {
		f.namesErr = discovery.Errorf(discovery.ErrUnavailable, "the names of services cannot be read")
	}
	for _, tt := range []struct {
		name    string
		lookup  string
		edit    func()
		detail  string
		nearest []string
		missing string
	}{
		{"one", "biling", nil, `service "biling" is not known; did you mean "billing"?`, []string{"billing"}, ""},
		{"at most three", "we", nil, `service "we" is not known; did you mean "web", "wet" or "webs"?`, []string{"web", "wet", "webs"}, ""},
		{"none", "nosuch", nil, `service "nosuch" is not known; see 'disc list'`, nil, ""},
		{"of a tag", "v2.biling.svc", nil, `service "biling" is not known; did you mean "billing"?`, []string{"billing"}, ""},
		{"with a dot", "my.ap", nil, `service "ap" is not known; did you mean "my.app"?`, []string{"my.app"}, ""},
		{"an instance", "web-3.web.inst", nil, `instance "web-3" of service "web" is not known; did you mean "web-1.web.inst" or "web-2.web.inst"?`, []string{"web-1.web.inst", "web-2.web.inst"}, ""},
		{"a node", "host-7.node", nil, `node "host-7" is not known; did you mean "host-1.node"?`, []string{"host-1.node"}, ""},
		{"no such node", "other.node", nil, `node "other" is not known; see /v1/nodes`, nil, ""},
		{"a node without an address", "host-2.node", nil, `node "host-2" is not known; did you mean "host-1.node"?`, []string{"host-1.node"}, ""},
		{"a service without instances", "Loads", nil, `service "Loads" is not known; see 'disc list'`, nil, ""},
		{"a stale view", "biling", stale, `service "biling" is not known; did you mean "billing"?`, []string{"billing"}, "the view is stale: what came since etcd last confirmed it is not in it"},
		{"names that cannot be read", "biling", unread, `service "biling" is not known; did you mean "billing"?`, []string{"billing"}, "the names of services cannot be read"},
		{"listed services", "nosuch", listed, `service "nosuch" is not known; see 'disc list'`, nil, "not all are watched"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.update(func() {
				f.view.Stale, f.namesMissing, f.namesErr = false, nil, nil
				if tt.edit != nil {
					tt.edit()
				}
			})
			_, _, err := s.Lookup(t.Context(), tt.lookup, api.LookupOptions{Explain: true})
			p, ok := errors.AsType[*api.Problem](err)
			if !ok || !errors.Is(err, discovery.ErrNotFound) {
				t.Fatal(err)
			}
			if p.Detail != tt.detail || !reflect.DeepEqual(p.Nearest, tt.nearest) || p.NamesMissing != tt.missing || p.Answered == nil || p.Answered.From != lookup.FromWatch || p.Answered.Prepared {
				t.Errorf("%+v, answered %+v", p, p.Answered)
			}
			_, _, err = s.Lookup(t.Context(), tt.lookup, api.LookupOptions{})
			if p, ok := errors.AsType[*api.Problem](err); !ok || p.Nearest != nil || p.NamesMissing != "" || p.Answered != nil {
				t.Errorf("without ?explain: %+v", err)
			}
		})
	}
	f.update(func() { f.view.Stale, f.namesMissing, f.namesErr = false, nil, nil })
	s.want("GET /v1/lookup/a.b.c.d?explain", "", 400, "of no known form")
}
