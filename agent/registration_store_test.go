package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"disc/agent/httpapi"
	"disc/discovery"
)

// files are the content of a data directory's files of registrations.
type files struct{ snapshot, journal string }

// write writes the files; "" is none.
func (f files) write(t *testing.T, path string) {
	t.Helper()
	for name, content := range map[string]string{registrationsFile: f.snapshot, journalFile: f.journal} {
		if content == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(path, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// copyFiles copies the files of registrations, as a kill or a power cut leaves them.
func copyFiles(t *testing.T, from string) (path string) {
	t.Helper()
	path = t.TempDir()
	for _, name := range []string{registrationsFile, journalFile} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(path, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// storeIn returns the store of a data directory, with what an agent reads from it at its start.
func storeIn(t *testing.T, path string) (*registrationStore, []savedRegistration) {
	t.Helper()
	s := newRegistrationStore(dir(t, path), slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() { s.close() })
	return s, s.load()
}

// keptIn returns the ids of the registrations that an agent reads at its start, after a kill.
func keptIn(t *testing.T, path string) []string {
	t.Helper()
	_, all := storeIn(t, copyFiles(t, path))
	ids := []string{}
	for _, r := range all {
		ids = append(ids, r.spec.ID)
	}
	return ids
}

// kept returns the ids of the registrations that are saved.
func (g *registrar) kept(t *testing.T) []string {
	t.Helper()
	return keptIn(t, g.saved.dir.dir.Path())
}

// save saves registrations as an earlier version did.
func save(t *testing.T, g *registrar, all ...discovery.Registration) {
	t.Helper()
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	files{snapshot: string(b)}.write(t, g.saved.dir.dir.Path())
}

func instance(id string) discovery.Registration {
	return discovery.Registration{Service: "Web", ID: id, Port: 80}
}

func (s *registrationStore) change(t *testing.T, puts, removals []string) {
	t.Helper()
	var errs []error
	for _, id := range puts {
		errs = append(errs, s.put(keyOf("web", id), instance(id)).wait(t.Context()))
	}
	for _, id := range removals {
		errs = append(errs, s.remove(keyOf("web", id)).wait(t.Context()))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func wantKept(t *testing.T, path string, want ...string) {
	t.Helper()
	if got := keptIn(t, path); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

func TestStoreSurvivesAKill(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	s.change(t, []string{"a", "b", "c"}, []string{"b"})
	wantKept(t, path, "a", "c")
	s.change(t, []string{"b"}, []string{"c", "nobody"})
	wantKept(t, path, "a", "b")
	t.Run("an earlier version reads all after an orderly end", func(t *testing.T) {
		s.close()
		b, err := os.ReadFile(filepath.Join(path, registrationsFile))
		var all []discovery.Registration
		if err = errors.Join(err, json.Unmarshal(b, &all)); err != nil || len(all) != 2 || all[0].Service != "Web" {
			t.Errorf("%s, %v", b, err)
		}
	})
}

// While an agent of an earlier version may follow, each change is in the file that it reads, whatever
// becomes of this agent.
func TestStoreForAnEarlierVersion(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	allowed := false
	s.journals = func() bool { return allowed }
	snapshot := func(want ...string) {
		t.Helper()
		var all []discovery.Registration
		b, err := os.ReadFile(filepath.Join(path, registrationsFile))
		if err = errors.Join(err, json.Unmarshal(b, &all)); err != nil {
			t.Fatal(err)
		}
		ids := []string{}
		for _, r := range all {
			ids = append(ids, r.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("registrations.json has %v, want %v", ids, want)
		}
	}
	s.change(t, []string{"a", "b"}, nil)
	snapshot("a", "b")
	s.change(t, []string{"c"}, []string{"a"})
	snapshot("b", "c")
	wantKept(t, path, "b", "c")
	allowed = true
	s.change(t, []string{"d"}, nil)
	snapshot("b", "c")
	wantKept(t, path, "b", "c", "d")
	allowed = false // the next agent does not know the level yet
	s.change(t, []string{"e"}, nil)
	snapshot("b", "c", "d", "e")
}

// A power cut leaves any number of bytes of the last change, which nobody was told is saved.
func TestTornJournal(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	s.change(t, []string{"a"}, nil)
	before := s.journal.size
	s.change(t, []string{"b"}, nil)
	for size := before; size < s.journal.size; size++ {
		cut := copyFiles(t, path)
		if err := os.Truncate(filepath.Join(cut, journalFile), size); err != nil {
			t.Fatal(err)
		}
		next, all := storeIn(t, cut)
		if len(all) != 1 {
			t.Fatalf("%d of %d bytes: read %v", size, s.journal.size, all)
		}
		next.change(t, []string{"c"}, nil)
		wantKept(t, cut, "a", "c")
		next.dir.close()
	}
}

// Whoever deletes or renames the files of a running agent takes away what is saved until the next
// change.
func TestFilesAreDeleted(t *testing.T) {
	for _, name := range []string{registrationsFile, journalFile} {
		for how, away := range map[string]func(string) error{
			"deleted": os.Remove,
			"renamed": func(file string) error { return os.Rename(file, file+".old") },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				path := t.TempDir()
				s, _ := storeIn(t, path)
				s.change(t, []string{"a"}, nil)
				if err := away(filepath.Join(path, name)); err != nil {
					t.Fatal(err)
				}
				s.change(t, []string{"b"}, nil)
				wantKept(t, path, "a", "b")
			})
		}
	}
}

func wantNamed(t *testing.T, s *registrationStore, prefix string) {
	t.Helper()
	if !slices.ContainsFunc(s.unusable(), func(text string) bool { return strings.HasPrefix(text, prefix) }) {
		t.Errorf("unusable are %q, want %s", s.unusable(), prefix)
	}
}

// A version that cannot use a registration keeps it for the version that can.
func TestUnusableRegistrationsAreKept(t *testing.T) {
	path := t.TempDir()
	const (
		later   = `{"service":"web","id":"later","port":80,"checks":[{"id":"q","type":"quic"}]}`
		typed   = `{"service":"web","id":"typed","port":{"from":80,"to":90}}`
		invalid = `{"service":"Web","id":"invalid","port":70000}`
		partly  = `{"service":"web","id":"partly","port":80,"priority":{"of":[1,2]}}`
		foreign = `{"group":"web","checks":[{"header":{"Authorization":"secret"}}]}`
		text    = `"web"`
	)
	files{snapshot: "[" + strings.Join([]string{later, typed, invalid, partly, foreign, text}, ",\n ") + "]"}.write(t, path)
	g := alone(t, path)
	g.settle = 0
	g.load(nil)
	named := []string{"web/later: ", "web/typed: ", "web/invalid: ", "web/partly: ", "entry 2 from the end of registrations.json (64 bytes): ", "entry 1 from the end of registrations.json (5 bytes): "}
	wantNamed := func(when string, named ...string) {
		t.Helper()
		got, ready := g.saved.unusable(), fmt.Sprint(g.pending())
		if len(got) != len(named) {
			t.Errorf("%s: %q, want %d", when, got, len(named))
		}
		for _, name := range named {
			unready := name != "web/partly: " // the rest of it is registered
			if !slices.ContainsFunc(got, func(text string) bool { return strings.HasPrefix(text, name) }) || strings.Contains(ready, "saved registration "+name) != unready {
				t.Errorf("%s: %q (%s), want %s", when, got, ready, name)
			}
		}
		if strings.Contains(fmt.Sprint(got, ready), "secret") {
			t.Errorf("%s: a secret shows in %q (%s)", when, got, ready)
		}
	}
	wantNamed("at the start", named...)
	if g.Owns("web", "later") || !g.Owns("web", "partly") {
		t.Error("what cannot be used is registered, or what can be used in part is not")
	}
	if _, err := g.Register(t.Context(), instance("other")); err != nil {
		t.Fatal(err)
	}
	g.saved.close()
	b, err := os.ReadFile(filepath.Join(path, registrationsFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{later, typed, invalid, partly, foreign, text} {
		if !strings.Contains(string(b), "\n"+raw) {
			t.Errorf("%s is not in %s", raw, b)
		}
	}

	g.saved.dir.close()
	g = alone(t, path)
	g.settle = 0
	g.load([]discovery.Registration{instance("typed")})
	if _, err := g.Register(t.Context(), instance("later")); err != nil {
		t.Fatal(err)
	}
	if done, err := g.Deregister(t.Context(), "web", "invalid", httpapi.Holder{}, false); err != nil || !done.Written || done.Warning != "" {
		t.Errorf("deregister: %+v, %v", done, err)
	}
	wantNamed("after one is registered anew, one removed and one in the config file", named[3:]...)
	if got := g.kept(t); !slices.Equal(got, []string{"later", "other", "partly"}) {
		t.Errorf("kept %v", got)
	}
}

// However many registrations cannot be used, /readyz stays readable. A file that is set aside takes
// no agent out.
func TestReadinessIsBounded(t *testing.T) {
	path := t.TempDir()
	all := slices.Repeat([]string{`"web"`}, 1000)
	files{snapshot: "[" + strings.Join(all, ",") + "]"}.write(t, path)
	g := alone(t, path)
	g.load(nil)
	if ready := fmt.Sprint(g.pending()); strings.Count(ready, "\n") != maxNamed || !strings.HasSuffix(ready, "990 more saved registrations are not registered; 'disc status' names them") {
		t.Errorf("ready: %s", ready)
	}
	path = t.TempDir()
	files{snapshot: "[{"}.write(t, path)
	g = alone(t, path)
	g.load(nil)
	wantNamed(t, g.saved, "registrations.json.unreadable: ")
	if err := g.pending(); err != nil {
		t.Errorf("ready: %v", err)
	}
}
