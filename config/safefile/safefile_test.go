package safefile_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"disc/config/safefile"
)

// stranger is a user that is neither root nor that of the tests.
const stranger = 65534

// tree is a directory with a private, a writable and a stranger's directory in it, and links.
//
//	private/file  open/file  sticky/file  strangers/file  writable-file strangers-file
//	link -> private, dangling -> nowhere, strangers-link -> private, loop -> loop
//	open/link -> ../private, sticky/link -> ../private, sticky/strangers-link -> ../private
func tree(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of another user")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	var errs []error
	for name, mode := range map[string]fs.FileMode{"private": 0o700, "open": 0o777, "group": 0o770, "sticky": 0o777 | fs.ModeSticky, "strangers": 0o700} {
		errs = append(errs, os.Mkdir(at(name), 0o700), os.WriteFile(at(name+"/file"), []byte("content"), 0o600), os.Chmod(at(name), mode))
	}
	for name, target := range map[string]string{
		"link": "private", "dangling": "nowhere/at/all", "loop": "loop", "strangers-link": "private", "absolute": dir + "/private/", "far": "link/../link",
		"open/link": "../private", "sticky/link": "../private", "sticky/strangers-link": "../private", "strangers/link": "../private",
	} {
		errs = append(errs, os.Symlink(target, at(name)))
	}
	errs = append(errs,
		os.WriteFile(at("private/writable"), nil, 0o600), os.Chmod(at("private/writable"), 0o620),
		os.WriteFile(at("private/strangers"), nil, 0o600), os.Lchown(at("private/strangers"), stranger, stranger),
		os.Symlink("file", at("private/link")), unix.Mkfifo(at("private/fifo"), 0o600),
		os.Lchown(at("strangers"), stranger, stranger), os.Lchown(at("strangers-link"), stranger, stranger),
		os.Lchown(at("sticky/strangers-link"), stranger, stranger))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMakeDir(t *testing.T) {
	for path, want := range map[string]string{ // "" is success
		"private": "", "private/": "", "./private/.": "", "strangers/../private": "", "link": "", "absolute": "", "far": "", "sticky/link": "",
		"made/now": "", "link/made/now": "",
		"dangling":              "the target of the symbolic link does not exist",
		"dangling/more":         "the target of the symbolic link does not exist",
		"loop":                  "too many levels",
		"private/file":          "not a directory",
		"private/file/more":     "not a directory",
		"strangers":             "strangers belongs to user id 65534 (mode 0700), and this process runs as user id 0",
		"open":                  "open (user id 0, mode 0777) is writable by others than its owner: run chmod go-w",
		"group":                 "mode 0770) is writable by others",
		"sticky":                "mode 1777) is writable by others",
		"strangers-link":        "strangers-link is a symbolic link of user id 65534",
		"sticky/strangers-link": "is a symbolic link of user id 65534",
		"open/link":             "link is not followed: ",
		"strangers/link":        "link is not followed: ",
	} {
		t.Run(path, func(t *testing.T) {
			dir := tree(t)
			d, err := safefile.MakeDir(dir + "/" + path)
			if err == nil {
				defer d.Close()
				err = d.Private()
			}
			expect(t, err, want)
			if untrusted := errors.Is(err, safefile.ErrUntrusted); want != "" && untrusted == (strings.Contains(want, "not a dir") || strings.Contains(want, "target") || strings.Contains(want, "levels")) {
				t.Errorf("%v is an ErrUntrusted: %v", err, untrusted)
			}
			if info, err := os.Stat(filepath.Join(dir, path)); want == "" && (err != nil || info.Mode().Perm() != 0o700) {
				t.Errorf("%v, %v; want a directory of mode 0700", info, err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "nowhere")); err == nil {
				t.Error("the target of a dangling link was made")
			}
		})
	}
}

// A relative path begins in the present directory.
func TestRelativePaths(t *testing.T) {
	t.Chdir(tree(t))
	for _, path := range []string{"private", ".", "link", "far/../private", "."} {
		d, err := safefile.MakeDir(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		d.Close()
	}
	d, name, err := safefile.Parent("socket")
	if err != nil || name != "socket" {
		t.Fatalf("%q, %v", name, err)
	}
	d.Close()
}

func TestOpen(t *testing.T) {
	for name, want := range map[string]string{
		"file": "", "missing": "no such file or directory",
		"link": "link is a symbolic link", "fifo": "fifo is not a regular file",
		"writable":  "writable (user id 0, mode 0620) is writable by others than its owner",
		"strangers": "strangers belongs to user id 65534",
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, tree(t)+"/private")
			content, err := d.ReadFile(name)
			expect(t, err, want)
			if want == "" && string(content) != "content" {
				t.Errorf("read %q", content)
			}
		})
	}
}

// Replace follows no link that lies in its way, whatever it leads to.
func TestReplace(t *testing.T) {
	dir := tree(t)
	victim := filepath.Join(dir, "strangers", "file")
	d := open(t, dir+"/private")
	for _, name := range []string{"file", "file.new"} {
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, "private", name)), os.Symlink(victim, filepath.Join(dir, "private", name))); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Replace("file", func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }); err != nil {
		t.Fatal(err)
	}
	if content, err := d.ReadFile("file"); err != nil || string(content) != "new" {
		t.Errorf("read %q, %v", content, err)
	}
	if content, err := os.ReadFile(victim); err != nil || string(content) != "content" {
		t.Errorf("the link's target has %q, %v", content, err)
	}
	failed := errors.New("failed")
	if err := d.Replace("file", func(io.Writer) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v, want %v", err, failed)
	}
	if _, err := d.Lstat("file.new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file is left: %v", err)
	}
}

// An open directory stays the same one when its path leads elsewhere.
func TestTheDirectoryStays(t *testing.T) {
	dir := tree(t)
	d := open(t, dir+"/private")
	if err := errors.Join(os.Rename(dir+"/private", dir+"/moved"), os.Symlink("strangers", dir+"/private")); err != nil {
		t.Fatal(err)
	}
	if err := d.Replace("new", func(w io.Writer) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/moved/new"); err != nil {
		t.Error(err)
	}
}

func TestParent(t *testing.T) {
	for path, want := range map[string]string{
		"private/socket": "", "link/socket": "", "sticky/socket": "", "private/link": "",
		"open/socket": "writable by others", "strangers/socket": "belongs to user id 65534", "strangers-link/socket": "is a symbolic link of user id",
		"missing/socket": "no such file",
	} {
		t.Run(path, func(t *testing.T) {
			d, name, err := safefile.Parent(tree(t) + "/" + path)
			if err == nil {
				defer d.Close()
				err = d.Stable()
			}
			expect(t, err, want)
			if want == "" && name != filepath.Base(path) {
				t.Errorf("got the name %q", name)
			}
		})
	}
}

func open(t *testing.T, path string) *safefile.Dir {
	t.Helper()
	d, err := safefile.MakeDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// Chmod changes the file that it is told about, and not one that took its place.
func TestChmod(t *testing.T) {
	dir := tree(t)
	d := open(t, dir+"/private")
	before, err := d.Lstat("file")
	if err == nil {
		err = d.Chmod("file", before, 0o640)
	}
	if after, _ := d.Lstat("file"); err != nil || after.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", after, err)
	}
	if err := os.Rename(dir+"/private/strangers", dir+"/private/file"); err != nil {
		t.Fatal(err)
	}
	expect(t, d.Chmod("file", before, 0o666), "private/file was replaced by another file (user id 65534)")
	if after, err := d.Lstat("file"); err != nil || after.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", after, err)
	}
}

// TestOpenStreamWantsTheSame expects that the stream which was looked at is opened, and no other.
func TestOpenStreamWantsTheSame(t *testing.T) {
	parent := t.TempDir()
	for _, name := range []string{"pipe", "other"} {
		if err := unix.Mkfifo(filepath.Join(parent, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := os.OpenFile(filepath.Join(parent, "pipe"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	dir, base, err := safefile.Locate(filepath.Join(parent, "pipe"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for name, same := range map[string]bool{"pipe": true, "other": false} {
		found, err := dir.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := dir.OpenStream(base, found)
		if same != (err == nil) || !same && !errors.Is(err, safefile.ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
	}
}
