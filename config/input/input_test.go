package input_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"disc/config/input"
	"disc/discovery"
)

// endless is a stream that does not end. It counts the bytes that were read.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

func TestLimit(t *testing.T) {
	t.Parallel()
	const limit = 1000
	for _, tt := range []struct {
		name string
		size int
		ok   bool
	}{{"empty", 0, true}, {"at the limit", limit, true}, {"above the limit", limit + 1, false}, {"far above", 100 * limit, false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			content := strings.Repeat("x", tt.size)
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			fromFile, fileErr := input.ReadFile(t.Context(), file, limit)
			fromStream, streamErr := input.ReadAll(t.Context(), strings.NewReader(content), "stdin", limit)
			if tt.ok {
				if string(fromFile) != content || string(fromStream) != content || fileErr != nil || streamErr != nil {
					t.Errorf("%d and %d bytes, %v, %v", len(fromFile), len(fromStream), fileErr, streamErr)
				}
				return
			}
			for name, err := range map[string]error{file: fileErr, "stdin": streamErr} {
				if want := name + " has more than 1000 bytes, which is the limit; give less"; !errors.Is(err, discovery.ErrInvalid) || err.Error() != want {
					t.Errorf("%v, want %s", err, want)
				}
			}
		})
	}
}

func TestEndlessStreamIsReadToTheLimitOnly(t *testing.T) {
	t.Parallel()
	e := &endless{}
	if _, err := input.ReadAll(t.Context(), e, "stdin", 1<<20); !errors.Is(err, discovery.ErrInvalid) || e.read != 1<<20+1 {
		t.Errorf("%v after %d bytes", err, e.read)
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	if _, err := input.ReadFile(t.Context(), "/nowhere/file", 1); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "open /nowhere/file: ") {
		t.Errorf("%v", err)
	}
}

// A read that blocks ends with its context: of a stream without data, and of a FIFO that
// nobody has opened for writing.
func TestReadThatBlocks(t *testing.T) {
	t.Parallel()
	stream, writer := io.Pipe()
	defer writer.Close()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(context.Context) ([]byte, error){
		"stdin": func(ctx context.Context) ([]byte, error) { return input.ReadAll(ctx, stream, "stdin", 1) },
		fifo:    func(ctx context.Context) ([]byte, error) { return input.ReadFile(ctx, fifo, 1) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := read(ctx)
			done <- err
		}()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "read "+name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // the open that was given up ends, and with it the goroutine
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
}
