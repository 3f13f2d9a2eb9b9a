package render_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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
	if err := syscall.Mkfifo(filepath.Join(dir, "unread"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "planted"):        "planted is a symbolic link of user id 65534",
		filepath.Join(dir, "tmp", "link"):    "link is a symbolic link of user id 65534",
		filepath.Join(dir, "tmp", "planted"): "planted belongs to user id 65534",

		dir:                                 "not a regular file",
		filepath.Join(dir, "unread"):        "unread has no reader",
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

// TestWriteStreams expects that devices, named pipes and descriptors are written to, and stay.
func TestWriteStreams(t *testing.T) {
	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink("pipe", link)); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	open := fmt.Sprintf("/dev/fd/%d", reader.Fd())
	for _, name := range []string{pipe, link, open} {
		for range 2 { // the same content, too
			if changed, err := render.WriteMarked(name, []byte("hello")); err != nil || !changed || !render.IsStream(name) {
				t.Fatalf("%s: %v (%v)", name, changed, err)
			}
			got := make([]byte, 5)
			if _, err := io.ReadFull(reader, got); err != nil || string(got) != "hello" {
				t.Errorf("%s: got %q (%v)", name, got, err)
			}
		}
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("the pipe is %v (%v)", info, err)
	}
	nothingLeft(t, dir)
	if changed, err := render.Write("/dev/null", []byte("x")); err != nil || !changed || !render.IsStream("/dev/null") {
		t.Errorf("/dev/null: %v (%v)", changed, err)
	}
	if render.IsStream(dir) || render.IsStream(filepath.Join(dir, "missing")) {
		t.Error("a directory, or what is not there, is a stream")
	}
}

// TestWriteDescriptorWithoutReader expects an error at once.
func TestWriteDescriptorWithoutReader(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	reader.Close()
	if changed, err := render.Write(fmt.Sprintf("/dev/fd/%d", writer.Fd()), []byte("x")); err == nil {
		t.Errorf("nobody reads the pipe: %v", changed)
	}
}

// TestWriteRefusesBlockDevices expects that no disk is overwritten.
func TestWriteRefusesBlockDevices(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	const none = 255 << 8 // a number that no driver has
	if err := syscall.Mknod(disk, syscall.S_IFBLK|0o600, none); err != nil {
		t.Skip("this user cannot make a device: ", err)
	}
	if changed, err := render.Write(disk, []byte("x")); changed || err == nil || !strings.Contains(err.Error(), "not a regular file, a character device") || render.IsStream(disk) {
		t.Errorf("%v (%v)", changed, err)
	}
}

// TestMark expects that a file is marked before it changes, until it is unmarked.
func TestMark(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	for range 2 {
		if changed, err := render.WriteMarked(name, []byte("a")); err != nil || !changed && !render.Marked(name) {
			t.Fatalf("%v (%v), marked %v", changed, err, render.Marked(name))
		}
	}
	for range 2 {
		if err := render.Unmark(name); err != nil || render.Marked(name) {
			t.Fatalf("marked %v (%v)", render.Marked(name), err)
		}
	}
	if changed, err := render.WriteMarked(name, []byte("a")); err != nil || changed || render.Marked(name) {
		t.Errorf("the same content: %v (%v), marked %v", changed, err, render.Marked(name))
	}
	nothingLeft(t, dir)
}

// TestMarkGoesWhereTheFileStays expects that a file which cannot be replaced has no mark, unless it had
// one before.
func TestMarkGoesWhereTheFileStays(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, strings.Repeat("n", 245)) // that of the temporary file is too long
	if changed, err := render.WriteMarked(name, []byte("a")); changed || !errors.Is(err, syscall.ENAMETOOLONG) || render.Marked(name) {
		t.Errorf("%v (%v), marked %v", changed, err, render.Marked(name))
	}
	nothingLeft(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "."+filepath.Base(name)+"-pending"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := render.WriteMarked(name, []byte("a")); changed || err == nil || !render.Marked(name) {
		t.Errorf("%v (%v), marked %v", changed, err, render.Marked(name))
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
