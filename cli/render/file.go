package render

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"disc/config/safefile"
)

// Write replaces the content of a file atomically: readers see the old or the new content.
// The file keeps its mode and owner; a new file gets mode 0644. If name is a symbolic link,
// Write replaces its target. Write reports whether the content changed, and does not touch
// the file otherwise.
//
// A character device, a named pipe, and an open descriptor such as /dev/fd/3 are written to, and stay what
// they are. What they have cannot be compared: Write always writes it. Directories, sockets and
// block devices are errors.
//
// A link that another user made, and another user's file in a directory that others can
// write to, such as /tmp, are a [safefile.ErrUntrusted]: the user could have put it there to
// have another file overwritten, or to have the new one.
func Write(name string, content []byte) (changed bool, err error) { return write(name, content, false) }

// WriteMarked is Write, and marks the file first if it is to change, until [Unmark]. The mark
// survives this process: what is to be done after the change was perhaps not done.
func WriteMarked(name string, content []byte) (changed bool, err error) {
	return write(name, content, true)
}

func write(name string, content []byte, marked bool) (changed bool, err error) {
	if descriptor.MatchString(name) {
		return true, writeDescriptor(name, content)
	}
	dir, base, err := safefile.Locate(name)
	if err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	defer dir.Close()
	old, same, err := compare(dir, name, base, content)
	switch {
	case err != nil || same:
	case isStream(old):
		err = writeStream(dir, base, old, content)
	case marked:
		err = replaceMarked(dir, base, content, old)
	default:
		_, err = replace(dir, base, content, old)
	}
	if err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	return !same, nil
}

// compare returns the info of the present file, nil if there is none, and whether it has the
// content already.
func compare(dir *safefile.Dir, path, name string, content []byte) (old fs.FileInfo, same bool, err error) {
	old, err = dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if !old.Mode().IsRegular() && !isStream(old) {
		return nil, false, errNoStream
	}
	shared, err := dir.Shared()
	if err == nil && shared {
		err = safefile.CheckOwner(path, old)
	}
	if err != nil || isStream(old) || old.Size() != int64(len(content)) {
		return old, false, err
	}
	f, err := dir.OpenAny(name, os.O_RDONLY, 0)
	if err != nil {
		return old, false, nil // it can be replaced nevertheless
	}
	defer f.Close()
	was, err := io.ReadAll(io.LimitReader(f, int64(len(content))+1))
	return old, err == nil && bytes.Equal(was, content), nil
}

// replaceMarked is replace, and marks the file first. A mark that it made goes if the file stays.
func replaceMarked(dir *safefile.Dir, name string, content []byte, old fs.FileInfo) error {
	made, err := mark(dir, name)
	if err != nil {
		return err
	}
	replaced, err := replace(dir, name, content, old)
	if made && !replaced {
		return errors.Join(err, dir.Remove(markName(name)))
	}
	return err
}

// replace writes a temporary file beside the old one, syncs it and renames it. The name of
// the temporary file begins with a dot, which wildcards of configuration files do not match.
func replace(dir *safefile.Dir, name string, content []byte, old fs.FileInfo) (replaced bool, err error) {
	temporary := "." + name + "-" + strings.ToLower(rand.Text()[:10])
	f, err := dir.OpenAny(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	defer func() {
		if !replaced {
			_ = dir.Remove(temporary) // the error says enough
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, copyOwnerAndMode(f, old), f.Sync(), f.Close()); err != nil {
		return false, err
	}
	if err := dir.Rename(temporary, name); err != nil {
		return false, err
	}
	return true, dir.Sync()
}

// copyOwnerAndMode gives f the owner and the mode of the file that it replaces. Only root
// may change the owner; otherwise the user of this process becomes the owner.
func copyOwnerAndMode(f *os.File, old fs.FileInfo) error {
	if old == nil {
		return f.Chmod(0o644)
	}
	if owner, ok := old.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return f.Chmod(old.Mode().Perm())
}
