package safefile

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLinks is the greatest number of symbolic links on one path, as in Linux.
const maxLinks = 40

// walker walks along a path. It holds one directory open, with searchOnly.
type walker struct {
	path  string // as it was asked for, for errors
	dir   *Dir
	todo  []string // the names that are left
	make  bool     // missing directories are made
	links int      // followed so far
	after int      // the names of todo that follow the link that is being followed
}

// walk opens the directory that has the last name of path, and returns that name, which is
// no symbolic link and may not exist. Close the directory.
func walk(path string, makeDirs bool) (*Dir, string, error) {
	if path == "" {
		return nil, "", &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	}
	w := &walker{path: path, make: makeDirs}
	if err := w.begin(path); err != nil {
		return nil, "", err
	}
	for {
		name, done, err := w.step()
		if err != nil {
			w.dir.Close()
			return nil, "", err
		}
		if done {
			return w.dir, name, nil
		}
	}
}

// begin continues with another path: from the root, or from the present directory.
func (w *walker) begin(path string) error {
	start := ""
	switch {
	case strings.HasPrefix(path, "/"):
		start = "/"
	case w.dir == nil:
		start = "."
	}
	if start != "" {
		f, err := openAt(unix.AT_FDCWD, start, start, searchOnly|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		w.move(&Dir{file: f, path: start})
	}
	w.todo = append(strings.FieldsFunc(path, func(r rune) bool { return r == '/' }), w.todo...)
	return nil
}

func (w *walker) move(to *Dir) {
	if w.dir != nil {
		w.dir.Close()
	}
	w.dir = to
}

// step takes the next name of the path. It is done at the last one that is no link.
func (w *walker) step() (name string, done bool, err error) {
	if len(w.todo) == 0 {
		return ".", true, nil // the path is "/", or a link to it
	}
	name, w.todo = w.todo[0], w.todo[1:]
	if name == "." && len(w.todo) > 0 {
		return "", false, nil
	}
	last := len(w.todo) == 0
	next, err := w.open(name, last)
	switch {
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return w.stepOther(name, last)
	case next == nil:
		return name, last, err
	case last:
		next.Close()
		return name, true, nil
	}
	w.move(&Dir{file: next, path: w.dir.join(name)})
	return "", false, nil
}

// stepOther takes a name that is no directory: it follows a link.
func (w *walker) stepOther(name string, last bool) (string, bool, error) {
	info, err := w.dir.Lstat(name)
	switch {
	case err != nil:
		return "", false, err
	case info.Mode()&fs.ModeSymlink != 0:
		return "", false, w.followLink(name, info)
	case last:
		return name, true, nil
	}
	return "", false, &fs.PathError{Op: "open", Path: w.dir.join(name), Err: syscall.ENOTDIR}
}

// open opens a name in the present directory as a directory: only so does it mount itself
// (autofs). It makes a missing directory if it may; nil without an error is the missing last name.
func (w *walker) open(name string, last bool) (*os.File, error) {
	next, err := w.dir.openDirectory(name)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return next, err
	case w.links > 0 && len(w.todo) >= w.after:
		return nil, &fs.PathError{Op: "open", Path: w.path, Err: danglingError{}}
	case last:
		return nil, nil
	case !w.make:
		return nil, err
	}
	if err := w.dir.mkdir(name); err != nil {
		return nil, err
	}
	return w.dir.openDirectory(name)
}

// followLink continues with the target of a symbolic link. Who owns it was read before: in a
// stable directory nobody else can have put another link in its place since then.
func (w *walker) followLink(name string, info fs.FileInfo) error {
	path := w.dir.join(name)
	if w.links++; w.links > maxLinks {
		return &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
	}
	if owner := ownerOf(info); !trusts(owner) {
		return untrustedf("%s is a symbolic link of user id %d, and this process runs as user id %d: give the path that it should lead to, or have root make the link",
			path, owner, os.Geteuid())
	}
	if err := w.dir.Stable(); err != nil {
		return untrustedf("symbolic link %s is not followed: %v", path, err)
	}
	if w.links == 1 || len(w.todo) < w.after {
		w.after = len(w.todo) // else the link is on the way to another's target
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(w.dir.file.Fd()), name, target)
	if err != nil {
		return &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	return w.begin(string(target[:n]))
}

// danglingError is the error for a symbolic link to nothing, an [fs.ErrNotExist]. Nothing is made
// in its place: the file system that it points to may not be mounted yet.
type danglingError struct{}

func (danglingError) Error() string        { return "the target of the symbolic link does not exist" }
func (danglingError) Is(target error) bool { return target == fs.ErrNotExist }
