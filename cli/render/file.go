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

// Write makes content the content of a file, as a whole: readers see the old one or the
// new one. The file's mode and owner stay; a new one gets 0644. Where name is a symbolic
// link, what it points to is replaced. Write reports whether the content was another
// before; if not, the file is not touched. What is there and no regular file is an error.
func Write(name string, content []byte) (changed bool, err error) {
	file, old, err := resolve(name)
	if err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	if old != nil {
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

// resolve returns the file that a name stands for, and what it is; nil when there is
// none yet.
func resolve(name string) (file string, info fs.FileInfo, err error) {
	file, err = filepath.EvalSymlinks(name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(name); err == nil {
			return "", nil, errors.New("it is a symbolic link to nothing")
		}
		return name, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	info, err = os.Stat(file)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	return file, info, err
}

// replace writes a temporary file beside the old one, syncs it and renames it. Its name
// begins with a dot, so that what includes all files of a directory does not find it.
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

// copyOwnerAndMode gives a file the owner and the mode of the one that it is to replace. Only root
// may give files away; for others the owner becomes themselves.
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

// syncDirectory makes a renaming outlast a loss of power.
func syncDirectory(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
