package view_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"disc/discovery/view"
	"disc/discovery/view/viewtest"
)

// vanished is web with five instances, of which c expired and is held.
func vanished(t *testing.T, more ...view.Change) *view.Snapshot {
	t.Helper()
	var changes []view.Change
	for n, id := range []string{"a", "b", "c", "d", "e"} {
		changes = append(changes, viewtest.WithLease(viewtest.Put(int64(n+1), "web/instances/"+id, `"weight":1`)))
	}
	s, _, _ := view.EmptySnapshot().WithEpoch("x").Apply(10, append(changes, more...))
	s, events, _ := s.Apply(11, []view.Change{hold(viewtest.Delete(11, "web/instances/c"))})
	if len(events) != 1 || events[0].Type != view.EventHeld {
		t.Fatalf("events are %+v", events)
	}
	return s
}

func hold(c view.Change) view.Change {
	c.Hold = true
	return c
}

// outline describes how a service's instances are shown: "c?" is a suspect, "C" overridden,
// "c*" a static entry; then the missing ones.
func outline(s *view.Snapshot) string {
	var b strings.Builder
	service, ok := s.Service("web")
	if !ok {
		return "unknown"
	}
	for _, e := range service.Entries() {
		id := e.ID
		if e.Override != nil {
			id = strings.ToUpper(id)
		}
		if e.Suspect {
			id += "?"
		}
		if e.Source == view.SourceStatic {
			id += "*"
		}
		b.WriteString(id)
	}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		if _, kept := s.Missing("WEB", id); kept {
			fmt.Fprintf(&b, " %s", id)
		}
	}
	return b.String()
}

func TestVanished(t *testing.T) {
	const instance, static, over = "web/instances/c", "web/static/c", "web/overrides/c"
	then := func(s *view.Snapshot, changes ...view.Change) *view.Snapshot {
		s, _, _ = s.Apply(20, changes)
		return s
	}
	judged := func(s *view.Snapshot, suspect bool) *view.Snapshot {
		s, _ = s.Resolve([]view.Decision{{"Web", "c", suspect}})
		return s
	}
	for name, test := range map[string]struct {
		s    *view.Snapshot
		want string
	}{
		"held":                    {vanished(t), "abcde c"},
		"suspect":                 {judged(vanished(t), true), "abc?de c"},
		"dropped":                 {judged(vanished(t), false), "abde"},
		"a suspect dropped":       {judged(judged(vanished(t), true), false), "abde"},
		"back":                    {then(vanished(t), viewtest.Put(20, instance, ``)), "abcde"},
		"back, then judged":       {judged(then(vanished(t), viewtest.Put(20, instance, ``)), false), "abcde"},
		"a suspect back":          {then(judged(vanished(t), true), viewtest.Put(20, instance, ``)), "abcde"},
		"leaving":                 {then(vanished(t), viewtest.Put(20, instance, `"leaving":true`)), "abde"},
		"a static entry beneath":  {vanished2(t, viewtest.Put(9, static, ``)), "abc*de"},
		"a static entry put":      {then(judged(vanished(t), true), viewtest.Put(20, static, ``)), "abc*de"},
		"an override put":         {then(judged(vanished(t), true), viewtest.Put(20, over, `"weight":3`)), "abC?de c"},
		"an override removed":     {then(vanished(t, viewtest.Put(9, over, `"weight":3`)), viewtest.Delete(20, over)), "abcde c"},
		"overridden, and dropped": {judged(vanished(t, viewtest.Put(9, over, `"weight":3`)), false), "abde"},
		"saved and loaded":        {then(view.EmptySnapshot(), slices.Collect(judged(vanished(t), true).Changes())...), "abc?de c"},
		"kept of another":         {keep(view.EmptySnapshot(), vanished(t), true), "a?b?c?d?e? a b c d e"},
		"kept beside":             {keep(then(view.EmptySnapshot(), viewtest.Put(2, "web/instances/b", ``), viewtest.Put(3, over, `"weight":3`)), vanished(t), true), "a?bC?d?e? a c d e"},
		"kept to be judged":       {keep(view.EmptySnapshot(), vanished(t), false), "abcde a b c d e"},
		"static entries are not":  {keep(view.EmptySnapshot(), then(view.EmptySnapshot(), viewtest.Put(3, static, ``)), true), "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outline(test.s); got != test.want {
				t.Errorf("%s: %s, want %s", name, got, test.want)
			}
		})
	}
}

// In this case nothing is held, since a static entry takes the record's place.
func vanished2(t *testing.T, static view.Change) *view.Snapshot {
	t.Helper()
	s, _, _ := vanished(t).Apply(12, []view.Change{viewtest.WithLease(viewtest.Put(12, "web/instances/c", ``)), static})
	s, events, _ := s.Apply(13, []view.Change{hold(viewtest.Delete(13, "web/instances/c"))})
	if len(events) != 1 || events[0].Type != view.EventPut {
		t.Errorf("events are %+v", events)
	}
	return s
}

func keep(s, other *view.Snapshot, suspects bool) *view.Snapshot {
	s, _ = s.RetainMissing(other, suspects)
	return s
}

// A change that the view makes by itself has a cursor and an index of its own.
func TestStepsOfAView(t *testing.T) {
	s := vanished(t)
	web, _ := s.Service("web")
	if web.Index() != 5 || s.ServicesIndex() != 5 || s.Cursor().String() != "11-x" {
		t.Errorf("held: index %d, %d, at %v", web.Index(), s.ServicesIndex(), s.Cursor())
	}
	seen, lists := map[int64]bool{web.Index(): true}, map[int64]bool{s.ServicesIndex(): true}
	note := func(what, at string) {
		t.Helper()
		web, _ := s.Service("web")
		if seen[web.Index()] || lists[s.ServicesIndex()] || s.Cursor().String() != at {
			t.Errorf("%s: index %d, %d, at %v", what, web.Index(), s.ServicesIndex(), s.Cursor())
		}
		seen[web.Index()], lists[s.ServicesIndex()] = true, true
	}
	s, events := s.Resolve([]view.Decision{{"web", "c", true}})
	note("suspect", "11.1-x")
	if len(events) != 1 || events[0].Type != view.EventPut || !events[0].Entry.Suspect || events[0].Cursor("x") != s.Cursor() {
		t.Errorf("events are %+v", events)
	}
	if same, events := s.Resolve([]view.Decision{{"web", "c", true}, {"web", "a", false}, {"db", "c", false}}); same != s || events != nil {
		t.Errorf("decisions about what is not missing make events: %+v", events)
	}
	s, events = s.Resolve([]view.Decision{{"web", "c", false}})
	note("dropped", "11.2-x")
	if len(events) != 1 || events[0].Type != view.EventDelete || events[0].Reason != view.ReasonExpired {
		t.Errorf("events are %+v", events)
	}
	s, _, _ = s.Apply(12, []view.Change{viewtest.Put(12, "web/instances/f", ``)})
	note("changed", "12-x")
}
