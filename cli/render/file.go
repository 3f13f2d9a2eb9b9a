package render

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write makes content the content of a file, as a whole: readers see the old one or the
// new one. The file's mode stays; a new one gets 0644. It reports whether the content was
// another before; if not, the file is not touched.
func Write(name string, content []byte) (changed bool, err error) {
	mode := fs.FileMode(0o644)
	switch old, err := os.ReadFile(name); {
	case err == nil && bytes.Equal(old, content):
		return false, nil
	case err == nil:
		info, err := os.Stat(name)
		if err != nil {
			return false, fmt.Errorf("write %s: %w", name, err)
		}
		mode = info.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	if err := replace(name, content, mode); err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	return true, nil
}

// replace writes a temporary file beside name, syncs it and renames it.
func replace(name string, content []byte, mode fs.FileMode) (err error) {
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
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
