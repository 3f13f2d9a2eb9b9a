package safefile

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// searchOnly opens a directory to walk through it (open(2), O_SEARCH). That takes the permission to
// search it, not the one to read it.
const searchOnly = unix.O_SEARCH

// chmod changes the mode by name, and follows no link: macOS opens no socket. Whoever may write to
// the directory could put another file of this user there between the two calls.
func (d *Dir) chmod(name string, file fs.FileInfo, mode fs.FileMode) error {
	now, err := d.Lstat(name)
	if err != nil {
		return err
	}
	if err := d.wantSame(name, file, now); err != nil {
		return err
	}
	return unix.Fchmodat(int(d.file.Fd()), name, uint32(mode.Perm()), unix.AT_SYMLINK_NOFOLLOW)
}
