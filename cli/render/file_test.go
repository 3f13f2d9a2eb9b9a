package render_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"disc/cli/render"
)

func TestWrite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out")
	for n, step := range []struct {
		content string
		changed bool
		mode    fs.FileMode
	}{{"a", true, 0o644}, {"a", false, 0o600}, {"b", true, 0o600}, {"", true, 0o600}} {
		before, _ := os.Stat(name)
		changed, err := render.Write(name, []byte(step.content))
		if err != nil || changed != step.changed {
			t.Errorf("%q: %v (%v), want %v", step.content, changed, err, step.changed)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != step.content {
			t.Errorf("the file has %q (%v), want %q", got, err, step.content)
		}
		after, err := os.Stat(name)
		if err != nil || after.Mode().Perm() != step.mode {
			t.Errorf("got mode %v (%v), want %v", after.Mode(), err, step.mode)
		}
		if n > 0 && os.SameFile(before, after) == step.changed {
			t.Errorf("%q: written in place, or replaced without a change", step.content)
		}
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nothingLeft(t, filepath.Dir(name))
}

// nothingLeft fails if a temporary file is left behind.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWriteReplacesWhatALinkPointsTo(t *testing.T) {
	dir := t.TempDir()
	available, enabled := filepath.Join(dir, "available"), filepath.Join(dir, "enabled")
	if err := os.WriteFile(available, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("available", enabled); err != nil {
		t.Fatal(err)
	}
	if changed, err := render.Write(enabled, []byte("new")); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if got, err := os.ReadFile(available); err != nil || string(got) != "new" {
		t.Errorf("got %q (%v)", got, err)
	}
	if to, err := os.Readlink(enabled); err != nil || to != "available" {
		t.Errorf("the link points to %q (%v)", to, err)
	}
}

func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Symlink("victim", filepath.Join(dir, "planted")), os.WriteFile(filepath.Join(dir, "victim"), []byte("old"), 0o600),
		os.Mkdir(filepath.Join(dir, "tmp"), 0o700), os.Symlink("../victim", filepath.Join(dir, "tmp", "link")), os.WriteFile(filepath.Join(dir, "tmp", "planted"), nil, 0o666),
		os.Chmod(filepath.Join(dir, "tmp"), 0o777|fs.ModeSticky),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		for _, name := range []string{"planted", "tmp/link", "tmp/planted"} {
			if err := os.Lchown(filepath.Join(dir, name), 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "planted"):        "planted is a symbolic link of user id 65534",
		filepath.Join(dir, "tmp", "link"):    "link is a symbolic link of user id 65534",
		filepath.Join(dir, "tmp", "planted"): "planted belongs to user id 65534",

		dir:                                 "not a regular file",
		"/dev/null":                         "not a regular file",
		filepath.Join(dir, "dangling"):      "the target of the symbolic link does not exist",
		filepath.Join(dir, "missing", "in"): "no such file or directory",
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(want, "65534") && os.Geteuid() != 0 {
				t.Skip("only root can make files of another user")
			}
			if changed, err := render.Write(name, []byte("x")); changed || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v (%v), want %q", name, changed, err, want)
			}
		})
	}
	nothingLeft(t, dir)
	if got, err := os.ReadFile(filepath.Join(dir, "victim")); err != nil || string(got) != "old" {
		t.Errorf("the target of a planted link has %q (%v)", got, err)
	}
}

// TestReadersSeeWholeFiles expects that a reader always finds one of the contents.
func TestReadersSeeWholeFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out")
	content := func(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d", n%10), 100_000) }
	if _, err := render.Write(name, content(0)); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for done := false; !done; {
			select {
			case <-over:
				done = true
			default:
			}
			got, err := os.ReadFile(name)
			if err != nil || len(got) != 100_000 || bytes.Count(got, got[:1]) != len(got) {
				t.Errorf("found %d bytes of a half-written file (%v)", len(got), err)
				return
			}
		}
	})
	for n := range 50 {
		if _, err := render.Write(name, content(n)); err != nil {
			t.Error(err)
		}
	}
	close(over)
	reader.Wait()
}
