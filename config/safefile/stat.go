package safefile

import (
	"errors"
	"io/fs"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Lstat returns what stands under a name, a symbolic link as itself. [SameFile] compares it.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) {
	i := info{name: name}
	for {
		err := unix.Fstatat(int(d.file.Fd()), name, &i.stat, unix.AT_SYMLINK_NOFOLLOW)
		if !errors.Is(err, unix.EINTR) {
			return i, d.pathError("lstat", name, err)
		}
	}
}

// Same reports whether a file still stands under a name, and when it was last modified.
func (d *Dir) Same(name string, file fs.FileInfo) (modified time.Time, same bool) {
	now, err := d.Lstat(name)
	if err != nil || !SameFile(file, now) {
		return time.Time{}, false
	}
	return now.ModTime(), true
}

// SameFile reports whether two descriptions are of one file, as [os.SameFile] does, which does not
// know those of [Dir.Lstat].
func SameFile(a, b fs.FileInfo) bool {
	one, ok := a.Sys().(*syscall.Stat_t)
	other, ok2 := b.Sys().(*syscall.Stat_t)
	return ok && ok2 && one.Dev == other.Dev && one.Ino == other.Ino
}

// info is the system's description of a file.
type info struct {
	name string
	stat unix.Stat_t
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.stat.Size }
func (i info) ModTime() time.Time { return time.Unix(i.stat.Mtim.Unix()) }
func (i info) IsDir() bool        { return i.Mode().IsDir() }

// Sys returns a *syscall.Stat_t, as for the files of package os.
func (i info) Sys() any {
	return &syscall.Stat_t{Dev: i.stat.Dev, Ino: i.stat.Ino, Mode: i.stat.Mode, Uid: i.stat.Uid, Gid: i.stat.Gid}
}

// types has the types of files by the bits of S_IFMT; a regular file has none.
var types = map[uint32]fs.FileMode{
	unix.S_IFDIR: fs.ModeDir, unix.S_IFLNK: fs.ModeSymlink, unix.S_IFSOCK: fs.ModeSocket, unix.S_IFIFO: fs.ModeNamedPipe,
	unix.S_IFBLK: fs.ModeDevice, unix.S_IFCHR: fs.ModeDevice | fs.ModeCharDevice, unix.S_IFREG: 0,
}

func (i info) Mode() fs.FileMode {
	bits := uint32(i.stat.Mode) //nolint:unconvert // it has 16 bits on macOS
	kind, ok := types[bits&unix.S_IFMT]
	if !ok {
		kind = fs.ModeIrregular
	}
	m := kind | fs.FileMode(bits).Perm()
	for bit, set := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if bits&bit != 0 {
			m |= set
		}
	}
	return m
}
