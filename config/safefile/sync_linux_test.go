package safefile_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"disc/config/safefile"
)

// A directory that cannot be synced keeps nothing from being saved in it.
func TestSyncWhereItCannotBe(t *testing.T) {
	t.Run("file system without it", func(t *testing.T) {
		dir, _, err := safefile.Locate("/proc/version")
		if err != nil {
			t.Skip(err)
		}
		defer dir.Close()
		if err := dir.Sync(); err != nil {
			t.Error(err)
		}
	})
	t.Run("unreadable directory", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can act as another user")
		}
		path := filepath.Join(t.TempDir(), "unreadable")
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, stranger, stranger), os.Chmod(path, 0o300)); err != nil {
			t.Fatal(err)
		}
		dir, _, err := safefile.Parent(path + "/file")
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := unix.Setfsuid(stranger); err != nil {
			t.Fatal(err)
		}
		err = dir.Sync()
		if err := errors.Join(err, unix.Setfsuid(0)); err != nil {
			t.Error(err)
		}
	})
}
