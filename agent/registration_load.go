package agent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"disc/discovery"
)

// asideFile is a file that load could not use, or not to its end.
type asideFile struct {
	file string // its name at the start
	name string // of what has its content now: file, until a copy is on the disk
	err  error
}

func (f asideFile) String() string {
	return fmt.Sprintf("%s: it is set aside (%v); register its instances again, and remove it from the data directory", f.name, f.err)
}

// errOtherSnapshot is the error of a journal with changes that the snapshot lacks and that do not
// belong to it.
var errOtherSnapshot = errors.New("it continues another " + registrationsFile +
	", which somebody has edited, or an earlier version has written, while the journal had changes")

// load reads the files, and returns the registrations that this version can read, sorted. A file
// that cannot be parsed is set aside. One that cannot be read, as with a bad sector, is left as it
// is: nothing is written until a restart.
func (s *registrationStore) load() []savedRegistration {
	s.writing.Lock()
	defer s.writing.Unlock()
	rewrite, err := s.read()
	if err != nil {
		s.block(err)
		return nil
	}
	if s.refused == nil && (rewrite || s.journal.file == nil || len(s.nameless) > 0) { // which end a snapshot
		_ = s.compact() // logged, and retried by Run
	}
	return s.readable()
}

// block keeps the files as they are until a restart.
func (s *registrationStore) block(err error) {
	err = fmt.Errorf("files cannot be read: %w; repair the data directory and restart the agent", err)
	s.log.Error("saved instances are not registered, and new ones are not saved", "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused, s.unread = err, err
}

// read reads the files, and reports whether a snapshot is to replace them. Unless it returns an
// error, both could be read.
func (s *registrationStore) read() (rewrite bool, err error) {
	snapshot, missing := s.dir.read(registrationsFile)
	if missing != nil && !errors.Is(missing, fs.ErrNotExist) {
		return false, missing
	}
	changes, err := s.dir.read(journalFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	var entries []json.RawMessage
	if missing == nil {
		err := json.Unmarshal(snapshot, &entries)
		if err != nil {
			s.setAside(registrationsFile, err)
			if len(changes) > 0 {
				s.setAside(journalFile, fmt.Errorf("it continues %s: %w", registrationsFile, err))
			}
			return true, nil
		}
	}
	for _, raw := range entries {
		s.add(raw)
	}
	if changes == nil {
		return true, nil
	}
	return s.replay(snapshot, changes), nil
}

// replay applies a journal and opens it to append. It reports whether a snapshot is to replace it.
//
// A journal of another snapshot is done with if this one has all its changes: the agent was killed
// between the two files of a new snapshot.
func (s *registrationStore) replay(snapshot, content []byte) (rewrite bool) {
	parsed, err := parseJournal(content)
	switch {
	case !parsed.continues(snapshot):
		if err != nil && !errors.Is(err, errTorn) {
			s.setAside(journalFile, err)
		} else if !s.hasAll(parsed.changes) {
			s.setAside(journalFile, errOtherSnapshot)
		}
		return true
	case err != nil && !errors.Is(err, errTorn):
		s.setAside(journalFile, err)
		rewrite = true
	case s.refused == nil:
		if openErr := s.journal.resume(parsed.size, int64(len(snapshot)), len(parsed.changes)); openErr != nil {
			s.log.Warn("cannot open the journal of the registrations; a snapshot replaces it", "error", openErr)
		}
	}
	for _, c := range parsed.changes {
		if c.Delete != nil {
			delete(s.entries, c.Delete.key())
		} else {
			s.add(c.Put)
		}
	}
	return rewrite || err != nil || len(parsed.changes) > 0
}

// hasAll reports whether the snapshot has the outcome of all changes of a journal.
func (s *registrationStore) hasAll(changes []journalChange) bool {
	last := map[instanceKey]json.RawMessage{} // nil: deleted
	for _, c := range changes {
		if c.Delete != nil {
			last[c.Delete.key()] = nil
			continue
		}
		var name savedName
		if err := json.Unmarshal(c.Put, &name); err != nil {
			return false
		}
		last[name.key()] = compacted(c.Put)
	}
	for key, raw := range last {
		if !bytes.Equal(s.entries[key].raw, raw) {
			return false
		}
	}
	return true
}

// setAside records a file that cannot be used, or not to its end. It stays in its place until a
// snapshot replaces it, and a copy from then on.
func (s *registrationStore) setAside(name string, err error) {
	s.aside = append(s.aside, asideFile{name, name, err})
	s.log.Error("cannot use a file of the saved registrations, or not to its end; a copy is set aside, register its instances again",
		"file", name, "copy", unreadable(name), "error", err)
}

// unreadable returns the name of the copy of a file that is set aside.
func unreadable(name string) string { return name + ".unreadable" }

// preserve copies the files that are set aside, before a snapshot replaces them. s.writing is held.
func (s *registrationStore) preserve() error {
	for i, f := range s.aside {
		if f.name != f.file {
			continue
		}
		content, err := s.dir.read(f.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody has removed it
		}
		if err == nil {
			err = s.dir.dir.Replace(unreadable(f.file), func(w io.Writer) error { _, err := w.Write(content); return err })
		}
		if err != nil {
			return fmt.Errorf("copy %s, which cannot be used, before a new one replaces it: %w", f.file, err)
		}
		s.mu.Lock()
		s.aside[i].name = unreadable(f.file)
		s.mu.Unlock()
	}
	return nil
}

// compacted returns JSON without blanks, or as it is if it is none.
func compacted(raw json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return bytes.Clone(raw)
	}
	return bytes.Clone(b.Bytes())
}

// add adds a registration of the files, in place of an earlier one of the same instance.
func (s *registrationStore) add(raw json.RawMessage) {
	raw = compacted(raw) // the file's content must not stay in memory
	var name savedName
	if err := json.Unmarshal(raw, &name); err != nil || name.Service == "" || name.ID == "" {
		err = cmp.Or(err, errors.New("service or id is missing"))
		s.nameless = append(s.nameless, savedEntry{raw: raw, problem: fmt.Errorf("it is no registration (%w); stop the agent with SIGTERM, which has it write that file, and then remove it", err)})
		return
	}
	s.entries[keyOf(name.Service, name.ID)] = savedEntry{raw: raw}
}

// readable returns the registrations that this version can read, sorted. It records why it cannot
// read the others, and which fields it does not know.
func (s *registrationStore) readable() []savedRegistration {
	var all []savedRegistration
	for _, key := range slices.SortedFunc(maps.Keys(s.entries), instanceKey.compare) {
		raw := s.entries[key].raw
		r := savedRegistration{key: key}
		if err := json.Unmarshal(raw, &r.spec); err != nil {
			s.reject(key, fmt.Errorf("it cannot be read: %w", err), false)
			continue
		}
		strict := json.NewDecoder(bytes.NewReader(raw))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&discovery.Registration{}); err != nil {
			s.reject(key, fmt.Errorf("a part has no effect in this version: %w", err), true)
		}
		all = append(all, r)
	}
	return all
}
