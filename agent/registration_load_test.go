package agent

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A kill between the two files of a new snapshot leaves a journal of the one before. The snapshot
// has its changes.
func TestKillBetweenTheFiles(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	s.change(t, []string{"a", "b", "c"}, []string{"b"})
	files{snapshot: `[{"service": "Web", "id": "a", "port": 80}, {"service":"Web","id":"c","port":80}]`}.write(t, path)
	path = copyFiles(t, path)
	next, all := storeIn(t, path)
	if len(all) != 2 || len(next.unusable()) > 0 {
		t.Errorf("read %v, unusable %q", all, next.unusable())
	}
	next.change(t, []string{"d"}, nil)
	wantKept(t, path, "a", "c", "d")
}

// Who edits the snapshot while the journal has changes, or runs an earlier version then, does not
// lose them without a word.
func TestJournalOfAnotherSnapshot(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	s.change(t, []string{"a", "b"}, nil)
	for _, content := range []string{`[{"service":"web","id":"c"}]`, ""} {
		path := copyFiles(t, path)
		journal, err := os.ReadFile(filepath.Join(path, journalFile))
		if err = errors.Join(err, os.Remove(filepath.Join(path, registrationsFile))); err != nil {
			t.Fatal(err)
		}
		files{snapshot: content}.write(t, path)
		next, all := storeIn(t, path)
		if want := strings.Count(content, "service"); len(all) != want {
			t.Errorf("read %v, want %d", all, want)
		}
		wantNamed(t, next, "registrations.journal.unreadable: ")
		if b, err := os.ReadFile(filepath.Join(path, "registrations.journal.unreadable")); err != nil || !bytes.Equal(b, journal) {
			t.Errorf("set aside %q, %v", b, err)
		}
	}
	t.Run("a change of the running agent writes all anew", func(t *testing.T) {
		files{snapshot: `[{"service":"web","id":"c"}]`}.write(t, path)
		s.change(t, []string{"d"}, nil)
		wantKept(t, path, "a", "b", "d")
	})
}

// obstruct puts a directory in the way of a file.
func obstruct(t *testing.T, path, name string) (end func()) {
	t.Helper()
	obstacle := filepath.Join(path, name)
	if err := os.MkdirAll(filepath.Join(obstacle, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(obstacle); err != nil {
			t.Fatal(err)
		}
	}
}

// What is set aside stays in its place until a copy of it, and all that could be read, is on disk.
func TestFilesAreSetAsideFirst(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	s.change(t, []string{"a", "b"}, nil)
	journal, err := os.ReadFile(filepath.Join(path, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	bad := string(journal) + "{\"rename\":{}}\n"
	for _, name := range []string{"registrations.json.new", "registrations.journal.unreadable.new"} {
		t.Run(name, func(t *testing.T) {
			path := copyFiles(t, path)
			files{journal: bad}.write(t, path)
			end := obstruct(t, path, name)
			next, all := storeIn(t, path)
			if len(all) != 2 {
				t.Errorf("read %v", all)
			}
			wantKept(t, path, "a", "b")
			end()
			next.change(t, []string{"c"}, nil)
			wantKept(t, path, "a", "b", "c")
			if b, err := os.ReadFile(filepath.Join(path, "registrations.journal.unreadable")); err != nil || string(b) != bad {
				t.Errorf("set aside %q, %v", b, err)
			}
		})
	}
}

// A file that cannot be read now may be read at the next start. It stays as it is.
func TestFilesThatCannotBeRead(t *testing.T) {
	for _, name := range []string{registrationsFile, journalFile} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			s, _ := storeIn(t, path)
			s.change(t, []string{"a"}, nil)
			path = copyFiles(t, path)
			hidden, file := filepath.Join(t.TempDir(), name), filepath.Join(path, name)
			if err := os.Rename(file, hidden); err != nil {
				t.Fatal(err)
			}
			end := obstruct(t, path, name)
			next, _ := storeIn(t, path)
			wantNamed(t, next, "files cannot be read: ")
			if err := next.put(keyOf("web", "b"), instance("b")).wait(t.Context()); err == nil {
				t.Error("a registration is saved over what could not be read")
			}
			next.close()
			end()
			if err := os.Rename(hidden, file); err != nil {
				t.Fatal(err)
			}
			wantKept(t, path, "a")
		})
	}
}

// A journal that no new one could replace must not count for a later snapshot with the content of
// its own.
func TestJournalThatCannotBeReplaced(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	s.change(t, []string{"a"}, nil)
	_ = s.compact()
	s.change(t, []string{"b"}, nil)
	obstruct(t, path, journalFile+".new")
	_ = s.compact()
	s.change(t, nil, []string{"b"})
	wantKept(t, path, "a")
}

func TestUnreadableFilesAreSetAside(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	s.change(t, []string{"a"}, nil)
	journal, err := os.ReadFile(filepath.Join(path, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, file string
		content    files
		want       int
	}{
		{"snapshot", registrationsFile, files{snapshot: "[{"}, 0},
		{"journal", journalFile, files{journal: string(journal) + "{\"rename\":{}}\n" + string(bytes.SplitAfter(journal, []byte("\n"))[1])}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := copyFiles(t, path)
			tt.content.write(t, path)
			if s, all := storeIn(t, path); len(all) != tt.want {
				t.Errorf("read %v, want %d", all, tt.want)
			} else {
				s.change(t, []string{"b"}, nil)
				wantNamed(t, s, tt.file+".unreadable: ")
			}
			if b, err := os.ReadFile(filepath.Join(path, tt.file+".unreadable")); err != nil || string(b) != tt.content.snapshot+tt.content.journal {
				t.Errorf("set aside %q, %v", b, err)
			}
			if s, _ := storeIn(t, copyFiles(t, path)); len(s.unusable()) > 0 {
				t.Errorf("after a restart: %q", s.unusable())
			}
		})
	}
}
