package agent

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func dir(t testing.TB, path string) *dataDir {
	t.Helper()
	d, err := openDataDir(path, false, slog.New(slog.NewTextHandler(t.Output(), nil)))
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
	if err := os.WriteFile(filepath.Join(path, lastGoodFile+".new"), []byte("half of a vi"), 0o600); err != nil {
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
	if info, err := os.Stat(filepath.Join(path, lastGoodFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want it for the owner only", info.Mode(), err)
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
	if d.Save(aView) == nil || d.Touch() == nil {
		t.Error("the view is not saved, and there is no error")
	}
}

// As systemd has it for a unit with DynamicUser= and StateDirectory=disc.
func TestADirectoryBehindALink(t *testing.T) {
	base := t.TempDir()
	link := filepath.Join(base, "disc")
	if err := errors.Join(os.MkdirAll(filepath.Join(base, "private", "disc"), 0o700), os.Symlink("private/disc", link)); err != nil {
		t.Fatal(err)
	}
	owner := dir(t, link).owner()
	if b, err := os.ReadFile(filepath.Join(base, "private", "disc", ownerFile)); err != nil || string(b) != owner+"\n" {
		t.Errorf("the directory behind the link has the owner %q, %v; want %q", b, err, owner)
	}
}

// A start is refused, and nothing is written, where another user could change the data directory.
func TestADirectoryOfOthersIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of another user")
	}
	const stranger = 65534
	for _, test := range []struct {
		name, want string
		prepare    func(path string) error
	}{
		{"of another user", "belongs to user id 65534 (mode 0700)", func(path string) error { return os.Chown(path, stranger, stranger) }},
		{"writable by the group", "mode 0720) is writable by others than its owner: run chmod go-w ", func(path string) error { return os.Chmod(path, 0o720) }},
		{"writable by all, sticky", "mode 1777) is writable by others", func(path string) error { return os.Chmod(path, 0o777|fs.ModeSticky) }},
		{"a link of another user", "is a symbolic link of user id 65534", func(path string) error {
			return errors.Join(os.Rename(path, path+"-real"), os.Symlink(path+"-real", path), os.Lchown(path, stranger, stranger))
		}},
		{"a file of another user", "owner belongs to user id 65534", func(path string) error {
			file := filepath.Join(path, ownerFile)
			return errors.Join(os.WriteFile(file, []byte("abc\n"), 0o644), os.Chown(file, stranger, stranger))
		}},
		{"a link in place of a file", "last-good is a symbolic link", func(path string) error {
			return os.Symlink(filepath.Join(path, "..", "victim"), filepath.Join(path, lastGoodFile))
		}},
		{"a writable file", "registrations.json (user id 0, mode 0666) is writable by others", func(path string) error {
			file := filepath.Join(path, registrationsFile)
			return errors.Join(os.WriteFile(file, []byte("[]"), 0o600), os.Chmod(file, 0o666))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data")
			if err := errors.Join(os.Mkdir(path, 0o700), test.prepare(path)); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadDir(path)
			d, err := openDataDir(path, false, slog.New(slog.DiscardHandler))
			if err == nil {
				d.close()
				t.Fatal("the start is not refused")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "data directory "+path) || !strings.Contains(err.Error(), "--data-dir") ||
				strings.Contains(err.Error(), "allow_shared_dirs: true") == strings.Contains(test.want, "symbolic link") {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if after, _ := os.ReadDir(path); len(after) != len(before) {
				t.Errorf("files %v, were %v", after, before)
			}
			// The setting accepts all but links, and names each once.
			log := &bytes.Buffer{}
			d, err = openDataDir(path, true, slog.New(slog.NewTextHandler(log, nil)))
			if strings.Contains(test.want, "symbolic link") {
				if err == nil || strings.Contains(err.Error(), "allow_shared_dirs") {
					t.Errorf("with allow_shared_dirs: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			d.owner()
			d.saveAddress("192.0.2.1")
			if !d.writable || strings.Count(log.String(), test.want) != 1 {
				t.Errorf("the log has %s, want %q in it once", log, test.want)
			}
		})
	}
}

// The agent warns where others can put another directory in the place of the data directory.
func TestDirectoryAboveOfOthers(t *testing.T) {
	for mode, warns := range map[fs.FileMode]bool{0o755: false, 0o777: true, 0o770: true, 0o777 | fs.ModeSticky: false} {
		t.Run(mode.String(), func(t *testing.T) {
			above := filepath.Join(t.TempDir(), "volume")
			if err := errors.Join(os.Mkdir(above, 0o700), os.Chmod(above, mode)); err != nil {
				t.Fatal(err)
			}
			log := &bytes.Buffer{}
			d, err := openDataDir(filepath.Join(above, "data"), false, slog.New(slog.NewTextHandler(log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			if strings.Contains(log.String(), "set the sticky bit") != warns {
				t.Errorf("the log has %q", log)
			}
		})
	}
}

func aView(w io.Writer) error {
	_, err := io.WriteString(w, "a view")
	return err
}
