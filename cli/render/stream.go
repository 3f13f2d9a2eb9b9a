package render

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"syscall"
	"time"

	"disc/config/safefile"
)

// streamTimeout bounds the time in which a stream takes all that is written, so that a reader which
// hangs holds up the other files for a while only.
const streamTimeout = 5 * time.Second

// descriptor matches the names of this process's open files. They are links that lead to no name.
var descriptor = regexp.MustCompile(`^/(?:dev|proc/self)/fd/[0-9]+$`)

// IsStream reports whether a file is a character device, a named pipe or an open descriptor, whose content
// [Write] cannot compare.
func IsStream(name string) bool {
	info, err := os.Stat(name)
	return descriptor.MatchString(name) || err == nil && isStream(info)
}

func isStream(info fs.FileInfo) bool {
	return info != nil && info.Mode()&(fs.ModeCharDevice|fs.ModeNamedPipe) != 0
}

// writeStream writes to the stream that was found under a name.
func writeStream(dir *safefile.Dir, name string, found fs.FileInfo, content []byte) error {
	f, err := dir.OpenStream(name, found)
	if err != nil {
		return err
	}
	return writeAll(f, content)
}

func writeDescriptor(name string, content []byte) error {
	f, err := openDescriptor(name)
	if err == nil {
		err = writeAll(f, content)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// openDescriptor opens a descriptor of this process anew. It does not wait for the reader of a pipe.
func openDescriptor(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("it has no reader: %w", err)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() && !isStream(info) {
		f.Close()
		return nil, errors.Join(err, errNoStream)
	}
	return f, nil
}

var errNoStream = errors.New("not a regular file, a character device or a named pipe")

func writeAll(f *os.File, content []byte) error {
	_ = f.SetWriteDeadline(time.Now().Add(streamTimeout)) // most devices have none, and do not block
	_, err := f.Write(content)
	return errors.Join(err, f.Close())
}
