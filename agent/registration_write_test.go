package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"disc/discovery/retry/retrytest"
)

// run runs the store until the test ends.
func (s *registrationStore) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// A store that saves nothing keeps nothing either.
func TestStoreWithoutADirectory(t *testing.T) {
	s, _ := storeIn(t, "/dev/null/data")
	for n := range 10 {
		key := keyOf("web", fmt.Sprint(n))
		if err := s.put(key, instance(key.id)).wait(t.Context()); !errors.Is(err, errNotWritable) {
			t.Fatalf("put: %v", err)
		}
		if err := s.remove(key).wait(t.Context()); n%2 == 0 && err != nil {
			t.Fatalf("remove: %v", err)
		}
	}
	if len(s.entries)+len(s.unsaved) > 0 {
		t.Errorf("it keeps %v, unsaved %v", s.entries, s.unsaved)
	}
}

// While a disk is full, callers cost it no attempts, and instances that come and go no memory.
func TestChangesWhileWritesFail(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	s.change(t, []string{"old", "gone"}, nil)
	if err := os.Remove(filepath.Join(path, journalFile)); err != nil {
		t.Fatal(err)
	}
	end := obstruct(t, path, registrationsFile+".new")
	if err := s.put(keyOf("web", "new"), instance("new")).wait(t.Context()); err == nil {
		t.Fatal("put succeeds")
	}
	end()
	for n := range 100 {
		key := keyOf("web", fmt.Sprint(n))
		if err := s.put(key, instance(key.id)).wait(t.Context()); err == nil {
			t.Fatal("a caller tries again")
		}
		if err := s.remove(key).wait(t.Context()); err != nil {
			t.Fatalf("remove of what was never saved: %v", err)
		}
	}
	if err := s.remove(keyOf("web", "gone")).wait(t.Context()); err == nil {
		t.Fatal("a caller tries again")
	}
	if err := s.lostErr(); err == nil || !strings.HasPrefix(err.Error(), "2 changes") {
		t.Errorf("lost: %v", err)
	}
	s.run(t)
	retrytest.Succeeds(t, s.lostErr)
	wantKept(t, path, "new", "old")
}

// A snapshot that could not be written when it was due is written as soon as it can be, without a
// further change.
func TestSnapshotIsRetried(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	end := obstruct(t, path, registrationsFile+".new")
	s.journal.limit = 0
	s.change(t, []string{"a"}, nil)
	s.run(t)
	end()
	retrytest.Succeeds(t, func() error {
		b, err := os.ReadFile(filepath.Join(path, registrationsFile))
		if err == nil && !bytes.Contains(b, []byte(`"a"`)) {
			err = fmt.Errorf("it has %s", b)
		}
		return err
	})
}

// Who goes back to an earlier version learns what that does not see.
func TestEndWithoutASnapshot(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	var log bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	s.change(t, []string{"a", "b"}, nil)
	obstruct(t, path, registrationsFile+".new")
	s.close()
	if !strings.Contains(log.String(), "an earlier version of the agent does not see") || !strings.Contains(log.String(), "changes=2") {
		t.Errorf("the log has %s", &log)
	}
	wantKept(t, path, "a", "b")
}

// A disk that hangs holds up no caller, and not the end of the agent.
func TestHungDisk(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	s.change(t, []string{"a", "b"}, nil)
	s.writing.Lock() // as a write that hangs has it
	t.Run("caller that hangs up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.remove(keyOf("web", "a")).wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	s.timeout = time.Millisecond
	if err := s.put(keyOf("web", "c"), instance("c")).wait(t.Context()); !errors.Is(err, errSlowDisk) {
		t.Errorf("got %v", err)
	}
	retrytest.Succeeds(t, func() error {
		if err := s.lostErr(); err == nil || !strings.HasPrefix(err.Error(), "2 changes") {
			return fmt.Errorf("lost: %w", err)
		}
		return nil
	})
	if got := s.unusable(); len(got) > 0 {
		t.Errorf("unusable: %q", got)
	}
	if s.close() {
		t.Error("it ended")
	}
	s.writing.Unlock()
	retrytest.Succeeds(t, func() error {
		s.writing.Lock()
		defer s.writing.Unlock()
		if s.journal.file != nil {
			return errors.New("the last writes go on")
		}
		return s.lostErr()
	})
	wantKept(t, path, "b", "c")
}

// A change that came while writes failed, and too late for the retry that succeeds, is written too.
func TestChangeDuringARetry(t *testing.T) {
	path := t.TempDir()
	s, _ := storeIn(t, path)
	s.mu.Lock()
	s.err = errSlowDisk
	s.mu.Unlock()
	if err := s.put(keyOf("web", "late"), instance("late")).wait(t.Context()); !errors.Is(err, errSlowDisk) {
		t.Fatal(err)
	}
	s.writing.Lock()
	s.record(nil) // the retry ends, which has begun before
	s.writing.Unlock()
	retrytest.Succeeds(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := s.pending(); n > 0 {
			return fmt.Errorf("%d changes are not saved", n)
		}
		return nil
	})
	wantKept(t, path, "late")
}
