package discovery

import "testing"

func TestMemo(t *testing.T) {
	s := snapshotOf(append(fleet("web", 0, 1), fleet("api", 0, 1)...))
	made := 0
	ask := func(s *Snapshot, name string) any {
		service, _ := s.Service(name)
		return service.Memo("count", func() any { made++; return made })
	}
	if ask(s, "web") != 1 || ask(s, "api") != 2 || ask(s, "web") != 1 {
		t.Errorf("made %d times", made)
	}
	next, _, _ := s.Apply(9, fleet("web", 1, 1))
	if ask(next, "web") != 3 || ask(next, "api") != 2 || ask(s, "web") != 1 {
		t.Error("what is made of a service must go when it changes, and only then")
	}
}
