// Package input reads the files and streams that a user names. A read has a limit, since
// the file may be a device or a pipe that never ends. It ends when its context does, also
// while it waits for a terminal, a pipe, or a FIFO that nobody has opened for writing.
package input

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sync/singleflight"

	"disc/discovery"
)

// The limits of the kinds of files, in bytes.
const (
	MaxSettings = 4 << 20  // a config file
	MaxPEM      = 1 << 20  // certificates, or a key
	MaxSecret   = 64 << 10 // a password, or a token
	MaxTemplate = 1 << 20
	MaxEntry    = 1 << 20 // a static entry
)

// files are the reads of files that have not ended. A file that blocks, as on a network file
// system that hangs, is read once at a time, however many wait for it.
var files singleflight.Group

// ReadFile returns the content of a file of at most limit bytes. ErrInvalid: it is larger.
// When ctx ends first, the error is that of ctx.
func ReadFile(ctx context.Context, name string, limit int) ([]byte, error) {
	done := files.DoChan(fmt.Sprint(limit, " ", name), func() (any, error) {
		f, err := os.Open(name)
		if err != nil {
			return []byte(nil), err
		}
		defer f.Close()
		return readAll(f, name, limit)
	})
	select {
	case r := <-done:
		return slices.Clone(r.Val.([]byte)), r.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("read %s: %w", name, ctx.Err())
	}
}

// ReadAll returns all of a stream, which errors call name. For the rest it is as [ReadFile].
func ReadAll(ctx context.Context, r io.Reader, name string, limit int) ([]byte, error) {
	return await(ctx, name, func() ([]byte, error) { return readAll(r, name, limit) })
}

func readAll(r io.Reader, name string, limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err == nil && len(b) > limit {
		return nil, discovery.Errorf(discovery.ErrInvalid, "%s has more than %d bytes, which is the limit; give less", name, limit)
	}
	return b, err
}

// await returns what read does, or the error of ctx if that ends first. No call interrupts
// an open or a read that blocks: read then goes on by itself, until the process ends.
func await(ctx context.Context, name string, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		content []byte
		err     error
	}
	done := make(chan result, 1)
	go func() {
		b, err := read()
		done <- result{b, err}
	}()
	select {
	case r := <-done:
		return r.content, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("read %s: %w", name, ctx.Err())
	}
}
