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
// the file otherwise. Anything but a regular file is an error.
//
// A link that another user made, and another user's file in a directory that others can
// write to, such as /tmp, are a [safefile.ErrUntrusted]: the user could have put it there to
// have another file overwritten, or to have the new one.
func Write(name string, content []byte) (changed bool, err error) {
	dir, base, err := safefile.Locate(name)
	if err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	defer dir.Close()
	old, same, err := compare(dir, name, base, content)
	if err == nil && !same {
		err = replace(dir, base, content, old)
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
	if !old.Mode().IsRegular() {
		return nil, false, errors.New("not a regular file")
	}
	shared, err := dir.Shared()
	if err == nil && shared {
		err = safefile.CheckOwner(path, old)
	}
	if err != nil || old.Size() != int64(len(content)) {
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

// replace writes a temporary file beside the old one, syncs it and renames it. The name of
// the temporary file begins with a dot, which wildcards of configuration files do not match.
func replace(dir *safefile.Dir, name string, content []byte, old fs.FileInfo) (err error) {
	temporary := "." + name + "-" + strings.ToLower(rand.Text()[:10])
	f, err := dir.OpenAny(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = dir.Remove(temporary) // the error says enough
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, copyOwnerAndMode(f, old), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := dir.Rename(temporary, name); err != nil {
		return err
	}
	return dir.Sync()
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
