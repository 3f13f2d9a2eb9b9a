package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery"
	"disc/discovery/retry"
	"disc/discovery/telemetry"
)

// registrationStore has the registrations of the API in the data directory. A registration that
// this version cannot use stays in the files as it is, for the version that can. What cannot be
// written is retried until it is.
type registrationStore struct {
	dir    *dataDir
	log    *slog.Logger
	failed retry.Signal // a write has failed

	writing sync.Mutex // serializes writes: who waits for it is covered by the next
	journal journal    // guarded by writing
	closed  bool       // guarded by writing

	mu       sync.Mutex
	entries  map[instanceKey]savedEntry
	nameless []savedEntry // without a service and an id: only an editor can remove them
	aside    []asideFile
	refused  error // why nothing can be written until a restart; nil: it can
	unread   error // why the files could not be read; nil: they could
	unsaved  map[instanceKey]bool
	err      error // of the last write
	lost     int   // the changes that it did not write
}

// savedEntry is a registration in the data directory.
type savedEntry struct {
	raw     json.RawMessage // as it was written; compact
	problem error           // what of it this version cannot use; nil: it can
}

// savedRegistration is a saved registration as this version reads it.
type savedRegistration struct {
	key  instanceKey
	spec discovery.Registration
}

func newRegistrationStore(dir *dataDir, log *slog.Logger) *registrationStore {
	s := &registrationStore{dir: dir, log: log, failed: retry.NewSignal(), journal: journal{dir: dir.dir, log: log},
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
				return float64(s.lost)
			}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "disc_registrations_unusable", Help: "Registrations in the data directory that this version of the agent cannot use, or not all of."},
			func() float64 { return float64(len(s.unusable())) }))
}

// put saves a registration. On an error it is not on disk yet: it is retried.
func (s *registrationStore) put(key instanceKey, spec discovery.Registration) error {
	raw, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.entries[key] = savedEntry{raw: raw}
	s.unsaved[key] = true
	s.mu.Unlock()
	return s.flush()
}

// remove removes a saved registration, usable or not, if there is one. On an error it is still on
// disk: its removal is retried.
func (s *registrationStore) remove(key instanceKey) error {
	s.mu.Lock()
	_, saved := s.entries[key]
	delete(s.entries, key)
	if saved {
		s.unsaved[key] = true
	}
	s.mu.Unlock()
	if !saved {
		return nil
	}
	return s.flush()
}

// has reports whether a registration is saved.
func (s *registrationStore) has(key instanceKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.entries[key]
	return ok
}

// reject records that this version cannot use a saved registration.
func (s *registrationStore) reject(key instanceKey, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[key]; ok {
		e.problem = err
		s.entries[key] = e
	}
}

// unusable names the saved registrations that this version cannot use, or not all of, each with
// the reason, sorted. Files that could not be read at this start follow, until they are removed.
func (s *registrationStore) unusable() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	if s.unread != nil {
		all = append(all, s.unread.Error())
	}
	for key, e := range s.entries {
		if e.problem != nil {
			all = append(all, fmt.Sprintf("%s: %v", key, e.problem))
		}
	}
	slices.Sort(all)
	for _, e := range s.nameless {
		all = append(all, fmt.Sprintf("%.60s: %v", e.raw, e.problem))
	}
	for _, f := range s.aside {
		if _, removed := s.dir.dir.Lstat(f.name); removed == nil {
			all = append(all, f.String())
		}
	}
	return all
}

// lostErr returns why changes would be lost if the agent ended now; nil: none would be.
func (s *registrationStore) lostErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return fmt.Errorf("%d changes of registrations are not saved and do not survive a restart of the agent: %w", s.lost, s.err)
}

// Run retries failed writes until ctx ends.
func (s *registrationStore) Run(ctx context.Context) error {
	for {
		select {
		case <-s.failed:
		case <-ctx.Done():
			return nil
		}
		var b retry.Backoff
		for s.flush() != nil {
			b.Failed()
			if b.Wait(ctx) != nil {
				return nil
			}
		}
	}
}

// flush writes all that is unsaved. Changes that others make meanwhile share the next write.
func (s *registrationStore) flush() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	changed, lines, err := s.take()
	if err != nil || len(changed) == 0 {
		return err
	}
	switch {
	case s.closed:
		err = errNotWritable
	case s.refused != nil:
		err = s.refused
	case s.journal.ready():
		err = s.journal.append(lines)
	default:
		err = s.snapshot()
	}
	s.record(changed, err)
	if s.journal.due() {
		s.compact()
	}
	return err
}

// take returns the unsaved changes, and as lines of the journal.
func (s *registrationStore) take() (changed map[instanceKey]bool, lines []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.unsaved {
		c := journalChange{Delete: &savedName{key.service, key.id}}
		if e, ok := s.entries[key]; ok {
			c = journalChange{Put: e.raw}
		}
		line, err := json.Marshal(c)
		if err != nil {
			return nil, nil, err
		}
		lines = append(append(lines, line...), '\n')
	}
	changed, s.unsaved = s.unsaved, map[instanceKey]bool{}
	return changed, lines, nil
}

// record records the result of the write of changes, and has failed ones retried.
func (s *registrationStore) record(changed map[instanceKey]bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.err
	s.err, s.lost = err, 0
	if err == nil {
		if before != nil {
			s.log.Info("registrations are saved again")
		}
		return
	}
	maps.Copy(s.unsaved, changed)
	s.lost = len(s.unsaved)
	if before == nil {
		s.log.Error("cannot save registrations; their changes do not survive a restart of the agent until they are", "error", err)
	}
	if s.refused == nil && !s.closed {
		s.failed.Notify()
	}
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

// snapshot writes all registrations anew, once a copy of what is set aside is on the disk.
// s.writing is held.
func (s *registrationStore) snapshot() error {
	if err := s.preserve(); err != nil {
		return err
	}
	return s.journal.snapshot(s.all())
}

// compact replaces the journal with a snapshot. s.writing is held.
func (s *registrationStore) compact() {
	if err := s.snapshot(); err != nil {
		s.journal.limit = 2 * s.journal.size
		s.log.Warn("cannot write all registrations anew; the next change tries again", "error", err)
	}
}

// close writes what is unsaved, and a snapshot for versions that know no journal. Nothing can be
// written after it.
func (s *registrationStore) close() {
	_ = s.flush() // logged
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.journal.ready() && s.journal.size > journalHeaderSize {
		s.compact()
	}
	s.journal.close()
	s.closed = true
}
