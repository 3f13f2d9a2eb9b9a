package agent

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"disc/discovery"
)

func dir(t *testing.T, path string) *dataDir {
	t.Helper()
	d, err := openDataDir(path, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

func TestOwnerStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not", "made", "yet")
	first := dir(t, path)
	owner := first.owner()
	if again := first.owner(); owner == "" || again != owner {
		t.Errorf("owner %q, then %q", owner, again)
	}
	first.close()
	if next := dir(t, path).owner(); next != owner {
		t.Errorf("owner %q after a restart, was %q", next, owner)
	}
}

// The temporary file of an agent that died while it wrote is overwritten.
func TestAKilledAgentLeavesNoLitter(t *testing.T) {
	path := t.TempDir()
	d := dir(t, path)
	if err := os.WriteFile(d.lastGoodFile()+".new", []byte("half of a vi"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(aView); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(path)
	if err != nil || len(files) != 2 {
		t.Errorf("files %v, %v; want the view and the lock", files, err)
	}
	if content, _, err := d.Load(); err != nil || string(content) != "a view" {
		t.Errorf("loaded %q, %v", content, err)
	}
	if info, err := os.Stat(d.lastGoodFile()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want it for the owner only", info.Mode(), err)
	}
}

func TestUnreadableRegistrationsAreSetAside(t *testing.T) {
	d := dir(t, t.TempDir())
	if err := os.WriteFile(d.registrationsFile(), []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.registrations(); len(got) != 0 {
		t.Errorf("read %v", got)
	}
	if b, err := os.ReadFile(d.registrationsFile() + ".unreadable"); err != nil || string(b) != "[{" {
		t.Errorf("set aside %q, %v", b, err)
	}
}

func TestADirectoryThatCannotBeMadeIsNoRefusal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := dir(t, filepath.Join(file, "data"))
	if d.owner() == "" {
		t.Error("no owner")
	}
	d.saveRegistrations([]discovery.Registration{web()})
	if d.Save(aView) == nil || d.Touch() == nil {
		t.Error("the view is not saved, and there is no error")
	}
}

func aView(w io.Writer) error {
	_, err := io.WriteString(w, "a view")
	return err
}
