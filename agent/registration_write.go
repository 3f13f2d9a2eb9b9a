package agent

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"disc/discovery/retry"
)

// Run retries failed writes until ctx ends.
func (s *registrationStore) Run(ctx context.Context) error {
	for {
		select {
		case <-s.failed:
		case <-ctx.Done():
			return nil
		}
		var b retry.Backoff
		for s.retry(ctx) != nil {
			b.Failed()
			if b.Wait(ctx) != nil {
				return nil
			}
		}
	}
}

// retry writes all that is unsaved, and a snapshot that could not be written when it was due.
func (s *registrationStore) retry(ctx context.Context) error {
	s.mu.Lock()
	b := s.request()
	b.retry = true
	s.mu.Unlock()
	return b.wait(ctx)
}

// savedChange is a change of a saved registration on its way to the disk.
type savedChange struct {
	store   *registrationStore
	key     instanceKey
	before  savedEntry // what it replaces
	existed bool       // something is replaced
	batch   *batch     // that writes it; nil: none
	err     error      // why it is not written
}

// wait waits until the change is on disk, for as long as a caller may wait.
func (c savedChange) wait(ctx context.Context) error {
	if c.batch == nil {
		return c.err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.store.timeout, errSlowDisk)
	defer cancel()
	return c.batch.wait(ctx)
}

// undo begins to take the change of a put back, while nobody else has changed that registration since.
func (c savedChange) undo() savedChange {
	if !c.existed {
		return c.store.remove(c.key)
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[c.key] = c.before
	back := savedChange{store: s, key: c.key, err: s.refused}
	if back.err == nil {
		s.changed(c.key, true)
		back.batch, back.err = s.save()
	}
	return back
}

// save returns the batch that writes all that is unsaved. Changes that others make meanwhile share the
// next one. While writes fail it returns why, and leaves the next attempt to Run. s.mu is held.
func (s *registrationStore) save() (*batch, error) {
	if err := s.failing(); err != nil {
		return nil, err
	}
	return s.request(), nil
}

// request returns the next batch, which a goroutine writes. s.mu is held.
func (s *registrationStore) request() *batch {
	if s.next == nil {
		s.next = &batch{done: make(chan struct{})}
	}
	if s.began.IsZero() {
		s.began = time.Now()
		go s.write()
	}
	return s.next
}

func (b *batch) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// write writes batches until there is none.
func (s *registrationStore) write() {
	s.writing.Lock()
	defer s.writing.Unlock()
	for b := s.takeBatch(); b != nil; b = s.takeBatch() {
		b.err = s.flush()
		if b.retry && b.err == nil && s.compactErr != nil {
			b.err = s.compact()
		}
		close(b.done)
	}
}

// takeBatch returns the next batch, or nil, with which the writing ends.
func (s *registrationStore) takeBatch() *batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.next
	s.next, s.began = nil, time.Time{}
	if b != nil {
		s.began = time.Now()
	}
	return b
}

// flush writes all that is unsaved, and a snapshot if one is due. s.writing is held.
func (s *registrationStore) flush() (err error) {
	switch changed := s.takeUnsaved(); {
	case !changed:
	case s.journals() && s.journal.ready():
		var lines []byte
		if lines, err = s.lines(); err == nil {
			err = s.journal.append(lines)
		}
	default:
		err = s.snapshot()
	}
	s.record(err)
	if s.compactErr == nil && s.journal.due() {
		_ = s.compact() // logged, and retried by Run
	}
	return err
}

// takeUnsaved puts all unsaved changes in flight, and reports whether there are any.
func (s *registrationStore) takeUnsaved() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight, s.unsaved = s.unsaved, map[instanceKey]bool{}
	return len(s.inFlight) > 0
}

// lines returns the changes in flight as lines of the journal.
func (s *registrationStore) lines() (lines []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.inFlight {
		c := journalChange{Delete: &savedName{key.service, key.id}}
		if e, ok := s.entries[key]; ok {
			c = journalChange{Put: e.raw}
		}
		line, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		lines = append(append(lines, line...), '\n')
	}
	return lines, nil
}

// record records the result of a write, and has a failed one retried. An instance that is gone
// again, and never was on disk, is forgotten: a disk that is full for days costs no more memory.
func (s *registrationStore) record(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, written := s.err, s.inFlight
	s.err, s.inFlight = err, nil
	if err == nil {
		if before != nil {
			s.log.Info("registrations are saved again")
		}
		if len(s.unsaved) > 0 { // their callers may have been told that writes fail, and wait for none
			s.request()
		}
		return
	}
	for key, onDisk := range written {
		onDisk = onDisk || errors.Is(err, errOutcomeUnknown)
		if _, wanted := s.entries[key]; wanted || onDisk {
			s.unsaved[key] = onDisk
		} else {
			delete(s.unsaved, key)
		}
	}
	if before == nil {
		s.log.Error("cannot save registrations; their changes do not survive a restart of the agent until they are", "error", err)
	}
	s.failed.Notify()
}

// snapshot writes all registrations anew, once a copy of what is set aside is on the disk.
// s.writing is held.
func (s *registrationStore) snapshot() error {
	err := s.preserve()
	if err == nil {
		err = s.journal.snapshot(s.all())
	}
	if err == nil {
		s.compactErr = nil
	}
	return err
}

// compact replaces the journal with a snapshot. After an error only Run tries again, so that it
// costs little. s.writing is held.
func (s *registrationStore) compact() error {
	err := s.snapshot()
	if err != nil && s.compactErr == nil {
		s.log.Warn("cannot write all registrations anew; the agent tries again, and the journal grows meanwhile", "error", err)
	}
	s.compactErr = err
	if err != nil {
		s.failed.Notify()
	}
	return err
}

// close writes what is unsaved, and a snapshot for versions that know no journal. Nothing is
// written after it, unless the disk hangs: then close returns false, and the write may still go on.
func (s *registrationStore) close() (ended bool) {
	s.mu.Lock()
	before := s.closed
	s.closed = true
	if s.refused == nil {
		s.refused = errStoreClosed
	}
	s.mu.Unlock()
	if before {
		return true
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.finish()
	}()
	hung := time.NewTimer(s.timeout)
	defer hung.Stop()
	select {
	case <-done:
		return true
	case <-hung.C:
		s.log.Error("the disk does not answer; the agent ends without the last changes of registrations on it")
		return false
	}
}

// finish makes the last writes.
func (s *registrationStore) finish() {
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.flush() // lostErr has it
	if err := s.lostErr(); err != nil {
		s.log.Error("the agent ends, and changes of registrations are lost", "error", err)
	}
	if s.journal.ready() && s.journal.changes > 0 {
		if err := s.compact(); err != nil {
			s.log.Error("cannot fold the journal into "+registrationsFile+"; an earlier version of the agent does not see its changes, this one does",
				"changes", s.journal.changes, "error", err)
		}
	}
	s.journal.close()
}
