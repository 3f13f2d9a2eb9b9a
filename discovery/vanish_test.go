package discovery

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// vanished is web with five instances, of which c died and is held.
func vanished(t *testing.T, more ...Change) *Snapshot {
	t.Helper()
	var changes []Change
	for n, id := range []string{"a", "b", "c", "d", "e"} {
		changes = append(changes, put(int64(n+1), "web/instances/"+id, `"weight":1`))
	}
	s, _, _ := EmptySnapshot().WithEpoch("x").Apply(10, append(changes, more...))
	s, events, _ := s.Apply(11, []Change{hold(remove(11, "web/instances/c"))})
	if len(events) != 1 || events[0].Type != EventHeld {
		t.Fatalf("events are %+v", events)
	}
	return s
}

func hold(c Change) Change {
	c.Hold = true
	return c
}

// outline tells how a service's instances are shown: "c?" is a suspect, "C" overridden,
// "c*" a static entry; then who is kept.
func outline(s *Snapshot) string {
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
		if e.Source == SourceStatic {
			id += "*"
		}
		b.WriteString(id)
	}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		if _, kept := s.Kept("WEB", id); kept {
			fmt.Fprintf(&b, " %s", id)
		}
	}
	return b.String()
}

func TestVanished(t *testing.T) {
	const instance, static, over = "web/instances/c", "web/static/c", "web/overrides/c"
	then := func(s *Snapshot, changes ...Change) *Snapshot {
		s, _, _ = s.Apply(20, changes)
		return s
	}
	judged := func(s *Snapshot, suspect bool) *Snapshot {
		s, _ = s.Judge([]Verdict{{"Web", "c", suspect}})
		return s
	}
	for name, test := range map[string]struct {
		s    *Snapshot
		want string
	}{
		"held":                    {vanished(t), "abcde c"},
		"suspect":                 {judged(vanished(t), true), "abc?de c"},
		"dropped":                 {judged(vanished(t), false), "abde"},
		"a suspect dropped":       {judged(judged(vanished(t), true), false), "abde"},
		"back":                    {then(vanished(t), put(20, instance, ``)), "abcde"},
		"back, then judged":       {judged(then(vanished(t), put(20, instance, ``)), false), "abcde"},
		"a suspect back":          {then(judged(vanished(t), true), put(20, instance, ``)), "abcde"},
		"leaving":                 {then(vanished(t), put(20, instance, `"leaving":true`)), "abde"},
		"a static entry beneath":  {vanished2(t, put(9, static, ``)), "abc*de"},
		"a static entry put":      {then(judged(vanished(t), true), put(20, static, ``)), "abc*de"},
		"an override put":         {then(judged(vanished(t), true), put(20, over, `"weight":3`)), "abC?de c"},
		"an override removed":     {then(vanished(t, put(9, over, `"weight":3`)), remove(20, over)), "abcde c"},
		"overridden, and dropped": {judged(vanished(t, put(9, over, `"weight":3`)), false), "abde"},
		"saved and loaded":        {then(EmptySnapshot(), slices.Collect(judged(vanished(t), true).Changes())...), "abc?de c"},
		"kept of another":         {keep(EmptySnapshot(), vanished(t), true), "a?b?c?d?e? a b c d e"},
		"kept beside":             {keep(then(EmptySnapshot(), put(2, "web/instances/b", ``), put(3, over, `"weight":3`)), vanished(t), true), "a?bC?d?e? a c d e"},
		"kept to be judged":       {keep(EmptySnapshot(), vanished(t), false), "abcde a b c d e"},
		"static entries are not":  {keep(EmptySnapshot(), then(EmptySnapshot(), put(3, static, ``)), true), "unknown"},
	} {
		if got := outline(test.s); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// vanished2 is the case in which nothing is held, since a static entry takes over.
func vanished2(t *testing.T, static Change) *Snapshot {
	t.Helper()
	s, _, _ := vanished(t).Apply(12, []Change{put(12, "web/instances/c", ``), static})
	s, events, _ := s.Apply(13, []Change{hold(remove(13, "web/instances/c"))})
	if len(events) != 1 || events[0].Type != EventPut {
		t.Errorf("events are %+v", events)
	}
	return s
}

func keep(s, other *Snapshot, suspects bool) *Snapshot {
	s, _ = s.Keep(other, suspects)
	return s
}

// What etcd knows nothing of has a position and an index of its own.
func TestStepsOfAView(t *testing.T) {
	s := vanished(t)
	web, _ := s.Service("web")
	if web.Index() != 5 || s.ServicesIndex() != 5 || s.Position().String() != "11-x" {
		t.Errorf("held: index %d, %d, at %v", web.Index(), s.ServicesIndex(), s.Position())
	}
	seen, lists := map[int64]bool{web.Index(): true}, map[int64]bool{s.ServicesIndex(): true}
	note := func(what, at string) {
		t.Helper()
		web, _ := s.Service("web")
		if seen[web.Index()] || lists[s.ServicesIndex()] || s.Position().String() != at {
			t.Errorf("%s: index %d, %d, at %v", what, web.Index(), s.ServicesIndex(), s.Position())
		}
		seen[web.Index()], lists[s.ServicesIndex()] = true, true
	}
	s, events := s.Judge([]Verdict{{"web", "c", true}})
	note("suspect", "11.1-x")
	if len(events) != 1 || events[0].Type != EventPut || !events[0].Entry.Suspect || events[0].Position("x") != s.Position() {
		t.Errorf("events are %+v", events)
	}
	if same, events := s.Judge([]Verdict{{"web", "c", true}, {"web", "a", false}, {"db", "c", false}}); same != s || events != nil {
		t.Errorf("what is not so makes events: %+v", events)
	}
	s, events = s.Judge([]Verdict{{"web", "c", false}})
	note("dropped", "11.2-x")
	if len(events) != 1 || events[0].Type != EventDelete || events[0].Reason != ReasonExpired {
		t.Errorf("events are %+v", events)
	}
	s, _, _ = s.Apply(12, []Change{put(12, "web/instances/f", ``)})
	note("changed", "12-x")
}
