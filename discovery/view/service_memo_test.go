package view_test

import (
	"testing"

	"disc/discovery"
	"disc/discovery/view"
	"disc/discovery/view/viewtest"
)

func TestMemo(t *testing.T) {
	s := viewtest.SnapshotOf(append(viewtest.Fleet("web", 0, 1), viewtest.Fleet("api", 0, 1)...))
	made := 0
	ask := func(s *view.Snapshot, name string) any {
		service, _ := s.Service(name)
		return service.Memo("count", func() any { made++; return made })
	}
	if ask(s, "web") != 1 || ask(s, "api") != 2 || ask(s, "web") != 1 {
		t.Errorf("made %d times", made)
	}
	next, _, _ := s.Apply(9, viewtest.Fleet("web", 1, 1))
	if ask(next, "web") != 3 || ask(next, "api") != 2 || ask(s, "web") != 1 {
		t.Error("a memo must go when its service changes, and only then")
	}
}

func TestMemoGoesWithTheService(t *testing.T) {
	keys := discovery.NewKeys("default")
	put := func(s *view.Snapshot, revision int64, service string) *view.Snapshot {
		i := discovery.Instance{Service: service, ID: "1", Address: "10.0.0.1", Weight: 1, Slots: 1, Status: discovery.Passing, Run: string(rune('a' + revision))}
		s, _, _ = s.Apply(revision, []view.Change{{Key: keys.Parse(keys.Instance(service, "1")), Value: i.Encode(), Modified: revision}})
		return s
	}
	memo := func(s *view.Snapshot, made string) any {
		service, _ := s.Service("web")
		return service.Memo("key", func() any { return made })
	}
	first := put(view.EmptySnapshot(), 1, "web")
	if memo(first, "first") != "first" || memo(first, "again") != "first" {
		t.Error("a memo was made twice")
	}
	if other := put(first, 2, "api"); memo(other, "second") != "first" || other.ServicesRevision() != 2 || other.NodesRevision() != 0 {
		t.Error("a change of another service dropped the memo")
	}
	if changed := put(first, 2, "web"); memo(changed, "second") != "second" {
		t.Error("a memo outlived its service's revision")
	}
}
