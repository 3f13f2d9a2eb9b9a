package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery"
	"disc/discovery/retry"
	"disc/discovery/telemetry"
)

// saveTimeout is how long a caller waits for the disk by default. After that the answer is a
// warning that the change is not saved yet.
const saveTimeout = 5 * time.Second

var (
	errSlowDisk    = errors.New("the disk has not taken it in time")
	errStoreClosed = errors.New("this agent has stopped, and saves nothing any more")
)

// registrationStore has the registrations of the API in the data directory. A registration that
// this version cannot use stays in the files as it is, for the version that can. What cannot be
// written is retried until it is.
type registrationStore struct {
	dir     *dataDir
	log     *slog.Logger
	failed  retry.Signal  // a write has failed
	timeout time.Duration // how long a caller waits for the disk

	// journals reports whether changes may go to the journal. Else each write is a snapshot, for an
	// earlier version, which reads no journal: it may follow although this agent is killed.
	journals func() bool

	writing    sync.Mutex // held while the disk works, which may hang: no caller waits for it
	journal    journal    // guarded by writing
	compactErr error      // guarded by writing; why no snapshot replaced the journal when one was due

	mu       sync.Mutex
	entries  map[instanceKey]savedEntry
	nameless []savedEntry // without a service and an id: only an editor can remove them
	aside    []asideFile
	unread   error                // why the files could not be read; nil: they could
	refused  error                // why nothing is saved any more; nil: it is
	unsaved  map[instanceKey]bool // changes of no write yet; true: the files have, or may have, the instance
	inFlight map[instanceKey]bool // those of the write that goes on, likewise
	began    time.Time            // when that began; zero: there is none
	next     *batch               // of the unsaved changes; nil: nobody has asked for one
	err      error                // of the last write
	closed   bool
}

// batch is a write to the disk that all share who wait for it.
type batch struct {
	retry bool          // a snapshot that failed is due again, too
	done  chan struct{} // closed when err is set
	err   error
}

// savedEntry is a registration in the data directory.
type savedEntry struct {
	raw     json.RawMessage // as it was written; compact
	problem error           // what of it this version cannot use; nil: it can
	partly  bool            // the rest is registered
}

// savedRegistration is a saved registration as this version reads it.
type savedRegistration struct {
	key  instanceKey
	spec discovery.Registration
}

func newRegistrationStore(dir *dataDir, log *slog.Logger) *registrationStore {
	s := &registrationStore{dir: dir, log: log, failed: retry.NewSignal(), timeout: saveTimeout,
		journals: func() bool { return true }, journal: journal{dir: dir.dir, log: log},
		entries: map[instanceKey]savedEntry{}, unsaved: map[instanceKey]bool{}}
	if !dir.writable {
		s.refused = errNotWritable
	}
	return s
}

// register registers the metrics of the store.
func (s *registrationStore) register(r prometheus.Registerer) error {
	return telemetry.Register(r,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "disc_registrations_unsaved", Help: "Changes of registrations that could not be written to the data directory, and are lost if the agent ends."},
			func() float64 {
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.failing() == nil {
					return 0
				}
				return float64(s.pending())
			}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "disc_registrations_unusable", Help: "Registrations in the data directory that this version of the agent cannot use, or not all of."},
			func() float64 { return float64(len(s.unusable())) }))
}

// put begins to save a registration. An error of the change means that it is not on disk yet:
// unless the store refuses all, it is retried.
func (s *registrationStore) put(key instanceKey, spec discovery.Registration) savedChange {
	raw, err := json.Marshal(spec)
	s.mu.Lock()
	defer s.mu.Unlock()
	before, saved := s.entries[key]
	c := savedChange{store: s, key: key, before: before, existed: saved, err: cmp.Or(err, s.refused)}
	switch {
	case c.err == nil:
		s.entries[key] = savedEntry{raw: raw}
		_, writing := s.inFlight[key]
		s.changed(key, saved || writing)
		c.batch, c.err = s.save()
	case saved:
		s.entries[key] = savedEntry{raw: before.raw} // its instance is registered again
	}
	return c
}

// remove begins to remove a saved registration, usable or not, if there is one. An error of the
// change means that it is still on disk: unless the store refuses all, its removal is retried.
func (s *registrationStore) remove(key instanceKey) savedChange {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, saved := s.entries[key]
	c := savedChange{store: s, key: key, before: before, existed: saved}
	delete(s.entries, key)
	if onDisk, known := s.unsaved[key]; known && !onDisk {
		delete(s.unsaved, key)
	} else if saved {
		if c.err = s.refused; c.err == nil {
			s.changed(key, true)
			c.batch, c.err = s.save()
		}
	}
	return c
}

// changed notes that an entry is to be written. onDisk says whether the files have, or may have, an
// earlier one. s.mu is held.
func (s *registrationStore) changed(key instanceKey, onDisk bool) {
	if _, known := s.unsaved[key]; !known {
		s.unsaved[key] = onDisk
	}
}

// has reports whether a registration is saved.
func (s *registrationStore) has(key instanceKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.entries[key]
	return ok
}

// reject records why this version cannot use a saved registration, or not all of it: the rest is
// registered.
func (s *registrationStore) reject(key instanceKey, err error, partly bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[key]; ok {
		e.problem, e.partly = err, partly
		s.entries[key] = e
	}
}

// unusable names the saved registrations that this version cannot use, or not all of, each with
// the reason, sorted. Files that could not be used at this start follow, until they are removed.
func (s *registrationStore) unusable() []string {
	all := s.problems(true)
	s.mu.Lock()
	aside := slices.Clone(s.aside)
	s.mu.Unlock()
	for _, f := range aside { // unlocked, since the disk may hang
		if _, removed := s.dir.dir.Lstat(f.name); removed == nil {
			all = append(all, f.String())
		}
	}
	return all
}

// unregistered names the saved registrations of which nothing is registered, as unusable does.
func (s *registrationStore) unregistered() []string { return s.problems(false) }

// problems names the saved registrations that have a problem. It names those that are registered in
// part only if asked for.
func (s *registrationStore) problems(partly bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for key, e := range s.entries {
		if e.problem != nil && (partly || !e.partly) {
			all = append(all, fmt.Sprintf("%s: %v", key, e.problem))
		}
	}
	slices.Sort(all)
	for i, e := range s.nameless { // without its text, which may have secrets
		all = append(all, fmt.Sprintf("entry %d from the end of %s (%d bytes): %v", len(s.nameless)-i, registrationsFile, len(e.raw), e.problem))
	}
	if s.unread != nil {
		all = append(all, s.unread.Error())
	}
	return all
}

// lostErr returns why changes would be lost if the agent ended now; nil: none would be.
func (s *registrationStore) lostErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err, lost := s.failing(), s.pending()
	if err == nil || lost == 0 {
		return nil
	}
	return fmt.Errorf("%d changes of registrations are not saved and do not survive a restart of the agent: %w", lost, err)
}

// failing returns the error of the last write, or that the disk hangs; nil: neither. s.mu is held.
func (s *registrationStore) failing() error {
	if s.err == nil && !s.began.IsZero() && time.Since(s.began) > s.timeout {
		return errSlowDisk
	}
	return s.err
}

// pending returns the number of changes that are not on disk yet. s.mu is held.
func (s *registrationStore) pending() int {
	n := len(s.unsaved)
	for key := range s.inFlight {
		if _, again := s.unsaved[key]; !again {
			n++
		}
	}
	return n
}

// all returns all registrations as a snapshot has them, sorted.
func (s *registrationStore) all() []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []json.RawMessage
	for _, key := range slices.SortedFunc(maps.Keys(s.entries), instanceKey.compare) {
		all = append(all, s.entries[key].raw)
	}
	for _, e := range s.nameless {
		all = append(all, e.raw)
	}
	return all
}

func (i instanceKey) compare(j instanceKey) int {
	return cmp.Or(strings.Compare(i.service, j.service), strings.Compare(i.id, j.id))
}
