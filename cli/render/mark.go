package render

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"disc/config/safefile"
)

// markName returns the name of the mark beside a file. It begins with a dot, which wildcards of
// configuration files do not match.
func markName(name string) string { return "." + name + "-pending" }

// mark marks a file, and reports whether it had no mark before.
func mark(dir *safefile.Dir, name string) (made bool, err error) {
	f, err := dir.OpenAny(markName(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

// Marked reports whether a file has the mark of [WriteMarked].
func Marked(name string) bool {
	dir, base, err := safefile.Locate(name)
	if err != nil {
		return false
	}
	defer dir.Close()
	_, err = dir.Lstat(markName(base))
	return err == nil
}

// Unmark removes the mark of a file, if it has one.
func Unmark(name string) error {
	if descriptor.MatchString(name) {
		return nil
	}
	dir, base, err := safefile.Locate(name)
	if err == nil {
		defer dir.Close()
		err = dir.Remove(markName(base))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the mark of %s: %w", name, err)
	}
	return nil
}
