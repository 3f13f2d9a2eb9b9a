package safefile

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// searchOnly opens a directory to walk through it. That takes the permission to search it, not the
// one to read it.
const searchOnly = unix.O_PATH

// chmod holds the file open while it compares it and changes its mode.
func (d *Dir) chmod(name string, file fs.FileInfo, mode fs.FileMode) error {
	f, err := openAt(int(d.file.Fd()), name, d.join(name), unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if err := d.wantSame(name, file, now); err != nil {
		return err
	}
	err = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), uint32(mode.Perm())) // fchmod(2) takes no O_PATH
	if errors.Is(err, fs.ErrNotExist) {                                            // /proc is not mounted
		err = unix.Fchmodat(int(f.Fd()), "", uint32(mode.Perm()), unix.AT_EMPTY_PATH) // since Linux 6.6
	}
	return err
}
