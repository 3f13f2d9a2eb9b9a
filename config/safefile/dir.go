package safefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is an open directory. Names in it have no slash. It stays the same directory when
// its path comes to lead elsewhere.
type Dir struct {
	file      *os.File // opened with searchOnly
	path      string
	tolerated func(error) // nil: nothing is
}

// MakeDir opens the directory at path. It makes what is missing of it, with mode 0700, but
// nothing behind a symbolic link.
func MakeDir(path string) (*Dir, error) {
	parent, name, err := walk(path, true)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	f, err := parent.openDirectory(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = parent.mkdir(name); err != nil {
			return nil, err
		}
		f, err = parent.openDirectory(name)
	}
	if err != nil {
		return nil, err
	}
	return &Dir{file: f, path: path}, nil
}

// Locate opens the directory that holds the file at path, and returns the file's name in
// it. The file is no symbolic link, since links are followed; it may not exist.
func Locate(path string) (dir *Dir, name string, err error) {
	if strings.HasSuffix(path, "/") {
		return nil, "", &fs.PathError{Op: "open", Path: path, Err: errors.New("it is a directory")}
	}
	return walk(path, false)
}

// Parent opens the directory that the last name of path is in, and returns the name, be it
// a symbolic link or not.
func Parent(path string) (dir *Dir, name string, err error) {
	at := strings.LastIndexByte(path, '/')
	parent, name := path[:at+1], path[at+1:]
	if parent == "" {
		parent = "."
	}
	above, last, err := walk(parent, false)
	if err != nil {
		return nil, "", err
	}
	defer above.Close()
	f, err := above.openDirectory(last)
	if err != nil {
		return nil, "", err
	}
	return &Dir{file: f, path: strings.TrimSuffix(parent, "/")}, name, nil
}

// Path returns the path that the directory was opened at.
func (d *Dir) Path() string { return d.path }

// Close closes the directory.
func (d *Dir) Close() error { return d.file.Close() }

// Tolerate makes the directory accept what is an [ErrShared] otherwise, its own owner and mode and
// those of the files in it. It calls f with each instead. Symbolic links stay errors.
func (d *Dir) Tolerate(f func(error)) { d.tolerated = f }

// tolerate returns err, unless it is to be accepted.
func (d *Dir) tolerate(err error) error {
	if d.tolerated == nil || !errors.Is(err, ErrShared) {
		return err
	}
	d.tolerated(err)
	return nil
}

// Above opens the directory that this one lies in.
func (d *Dir) Above() (*Dir, error) {
	path := filepath.Join(d.path, "..")
	f, err := openAt(int(d.file.Fd()), "..", path, searchOnly|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{file: f, path: path}, nil
}

// Private returns an [ErrShared] unless a trusted user owns the directory and nobody else
// may write to it.
func (d *Dir) Private() error {
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	return d.tolerate(wantPrivate(d.path, info))
}

// Stable returns an [ErrShared] unless a trusted user owns the directory and nobody else
// can remove or replace what this process puts into it: others must not write to it, or it
// has the sticky bit, as /tmp has.
func (d *Dir) Stable() error {
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSticky != 0 {
		return d.tolerate(CheckOwner(d.path, info))
	}
	return d.tolerate(wantPrivate(d.path, info))
}

// Shared reports whether others than the owner of the directory can make files in it.
func (d *Dir) Shared() (bool, error) {
	info, err := d.file.Stat()
	return err == nil && info.Mode().Perm()&writableByOthers != 0, err
}

// Open opens a file, as [os.OpenFile] does. A symbolic link is an error, and so is a file
// that another user owns or may write to, which is an [ErrShared].
func (d *Dir) Open(name string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := d.OpenAny(name, flag, perm)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = d.tolerate(wantPrivate(f.Name(), info))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// OpenAny opens a regular file, whoever owns it. A symbolic link is an error.
func (d *Dir) OpenAny(name string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := openAt(int(d.file.Fd()), name, d.join(name), flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, perm) // a FIFO must not block
	if errors.Is(err, unix.ELOOP) {
		return nil, untrustedf("%s is a symbolic link: put a file in its place, or remove it", d.join(name))
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", d.join(name)))
	}
	return f, nil
}

// OpenStream opens a character device or a named pipe for writing, whoever owns it. found is what
// stood there before: another file is an [ErrUntrusted]. A pipe that nobody reads is an error.
func (d *Dir) OpenStream(name string, found fs.FileInfo) (*os.File, error) {
	f, err := openAt(int(d.file.Fd()), name, d.join(name), os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("%s has no reader: %w", d.join(name), err)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.Mode()&(fs.ModeCharDevice|fs.ModeNamedPipe) == 0:
		err = fmt.Errorf("%s is neither a character device nor a named pipe", d.join(name))
	default:
		err = d.wantSame(name, found, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadFile returns the content of a file that [Dir.Open] opens.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	f, err := d.Open(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Chmod changes the mode of what stands under a name, if it is still the same file.
func (d *Dir) Chmod(name string, file fs.FileInfo, mode fs.FileMode) error {
	return d.pathError("chmod", name, d.chmod(name, file, mode))
}

// wantSame returns an [ErrUntrusted] if another file took the place of one.
func (d *Dir) wantSame(name string, file, now fs.FileInfo) error {
	if !SameFile(file, now) {
		return untrustedf("%s was replaced by another file (user id %d)", d.join(name), ownerOf(now))
	}
	return nil
}

// Rename renames a file, over what has the new name.
func (d *Dir) Rename(from, to string) error {
	fd := int(d.file.Fd())
	return d.pathError("rename", from, unix.Renameat(fd, from, fd, to))
}

// Remove removes a file.
func (d *Dir) Remove(name string) error {
	return d.pathError("remove", name, unix.Unlinkat(int(d.file.Fd()), name, 0))
}

// Touch sets the time at which a file was last changed.
func (d *Dir) Touch(name string, at time.Time) error {
	now := unix.NsecToTimespec(at.UnixNano())
	return d.pathError("touch", name, unix.UtimesNanoAt(int(d.file.Fd()), name, []unix.Timespec{now, now}, unix.AT_SYMLINK_NOFOLLOW))
}

// Sync makes renames durable, as far as it can: it does nothing where the file system syncs no
// directories, such as CIFS or 9P, and where this process may not read the directory.
func (d *Dir) Sync() error {
	f, err := openAt(int(d.file.Fd()), ".", d.path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// ErrNotSynced is the error of [Dir.Replace] when the new file is in place, but a power cut could
// still bring the old one back.
var ErrNotSynced = errors.New("the directory cannot be synced")

// Replace replaces a file atomically: it writes a temporary file beside it with mode 0600,
// syncs it, renames it and syncs the directory. The temporary name is always the same, so that
// the next process removes what a killed one left. On an error the file is as it was, unless it
// is [ErrNotSynced].
func (d *Dir) Replace(name string, write func(io.Writer) error) (err error) {
	temporary := name + ".new"
	if err := d.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Open(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = d.Remove(temporary) // the next Replace removes it
		}
	}()
	if err = errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = d.Rename(temporary, name); err != nil {
		return err
	}
	if err = d.Sync(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotSynced, err)
	}
	return nil
}

func (d *Dir) mkdir(name string) error {
	err := unix.Mkdirat(int(d.file.Fd()), name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was faster; the walk looks at what it made
	}
	if err == nil {
		_ = d.Sync() // the new directory can be used all the same
	}
	return d.pathError("mkdir", name, err)
}

func (d *Dir) openDirectory(name string) (*os.File, error) {
	return openAt(int(d.file.Fd()), name, d.join(name), searchOnly|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
}

// join returns the path of a name in the directory, for errors.
func (d *Dir) join(name string) string {
	switch d.path {
	case ".":
		return name
	case "/", "":
		return "/" + name
	}
	return d.path + "/" + name
}

func (d *Dir) pathError(op, name string, err error) error {
	if err == nil || errors.Is(err, ErrUntrusted) || errors.As(err, new(*fs.PathError)) {
		return err
	}
	return &fs.PathError{Op: op, Path: d.join(name), Err: err}
}

func openAt(dir int, name, path string, flag int, perm fs.FileMode) (*os.File, error) {
	for {
		fd, err := unix.Openat(dir, name, flag|unix.O_CLOEXEC, uint32(perm.Perm()))
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case !errors.Is(err, unix.EINTR):
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}
