package render

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Write replaces the content of a file atomically: readers see the old or the new content.
// The file keeps its mode and owner; a new file gets mode 0644. If name is a symbolic link,
// Write replaces its target. Write reports whether the content changed, and does not touch
// the file otherwise. Anything but a regular file is an error.
func Write(name string, content []byte) (changed bool, err error) {
	file, old, err := resolve(name)
	if err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	if old != nil && old.Size() == int64(len(content)) {
		was, err := os.ReadFile(file)
		if err == nil && bytes.Equal(was, content) {
			return false, nil
		}
	}
	if err := replace(file, content, old); err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	return true, nil
}

// resolve follows symbolic links and returns the file and its info; info is nil if the file
// does not exist.
func resolve(name string) (file string, info fs.FileInfo, err error) {
	file, err = filepath.EvalSymlinks(name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(name); err == nil {
			return "", nil, errors.New("the target of the symbolic link does not exist")
		}
		return name, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	info, err = os.Stat(file)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	return file, info, err
}

// replace writes a temporary file beside the old one, syncs it and renames it. The name of
// the temporary file begins with a dot, which wildcards of configuration files do not match.
func replace(name string, content []byte, old fs.FileInfo) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, copyOwnerAndMode(f, old), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(name))
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

// syncDirectory makes a rename durable.
func syncDirectory(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
