package agent

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"disc/config/safefile"
)

// minJournal is the size below which a journal is not folded into a snapshot, in bytes.
const minJournal = 1 << 20

// journal writes the saved registrations to two files of the data directory, so that a change
// costs one line and one sync.
//
//	registrations.json     the snapshot: a JSON array of registrations, as all versions read it
//	registrations.journal  the changes since, one a line
//
// The first line of the journal has the SHA-256 of the snapshot that it continues. A journal of
// another snapshot is not applied: the agent was killed between the two files of a new snapshot,
// which has the journal's changes, or somebody else has written registrations.json since.
type journal struct {
	dir   *safefile.Dir
	log   *slog.Logger
	base  fs.FileInfo // of the snapshot
	info  fs.FileInfo // of file
	file  *os.File    // open to append; nil: the next write is a snapshot
	size  int64       // of file, up to the end of the last change on disk
	limit int64       // the size from which on a snapshot is due

	changes int // in file
}

// journalHeader is the first line of a journal.
type journalHeader struct {
	Snapshot string `json:"snapshot"` // its SHA-256, hexadecimal
}

// journalChange is a further line: one of its fields is set.
type journalChange struct {
	Put    json.RawMessage `json:"put,omitempty"` // a registration
	Delete *savedName      `json:"delete,omitempty"`
}

// savedName are the fields of a saved registration that name it.
type savedName struct {
	Service string `json:"service"`
	ID      string `json:"id"`
}

func (n savedName) key() instanceKey { return keyOf(n.Service, n.ID) }

// errTorn is the error of a journal whose last line is cut off, as by a power cut: nobody was
// told that this change is saved.
var errTorn = errors.New("the last line is cut off")

// errOutcomeUnknown is the error of a write of which all or a part may be on the disk.
var errOutcomeUnknown = errors.New("nobody knows what of it is on the disk")

// ready reports whether a change can be appended. It cannot when somebody has deleted or renamed
// the journal, or deleted or changed the snapshot.
func (j *journal) ready() bool {
	if j.file == nil {
		return false
	}
	_, same := j.dir.Same(journalFile, j.info)
	if modified, sameBase := j.dir.Same(registrationsFile, j.base); same && sameBase && modified.Equal(j.base.ModTime()) {
		return true
	}
	j.close()
	return false
}

// due reports whether the journal has grown so large that a snapshot is to replace it.
func (j *journal) due() bool { return j.file != nil && j.size >= j.limit }

// append writes changes, whole lines, to the disk. On an error none of them counts.
func (j *journal) append(lines []byte) error {
	if _, err := j.file.Write(lines); err != nil {
		if j.file.Truncate(j.size) == nil {
			return err
		}
		j.close()
		return fmt.Errorf("%w: %w", errOutcomeUnknown, err)
	}
	if err := j.file.Sync(); err != nil {
		j.close()
		return fmt.Errorf("%w: %w", errOutcomeUnknown, err)
	}
	j.size += int64(len(lines))
	j.changes += bytes.Count(lines, []byte("\n"))
	return nil
}

// snapshot writes all registrations and begins a new journal. On an error the files are as
// before, or the next write is a snapshot again.
func (j *journal) snapshot(all []json.RawMessage) error {
	sum, size := sha256.New(), int64(0)
	err := j.dir.Replace(registrationsFile, func(w io.Writer) (err error) {
		size, err = writeSnapshot(w, sum, all)
		return err
	})
	if err != nil {
		if errors.Is(err, safefile.ErrNotSynced) {
			j.close() // the file may be the new one, which the journal does not continue
			err = fmt.Errorf("%w: %w", errOutcomeUnknown, err)
		}
		return err
	}
	j.close()
	if err := j.begin(sum, size); err != nil {
		j.close() // the snapshot has all, and the next write is one again
		return j.discard(err)
	}
	return nil
}

// discard removes the journal of an earlier snapshot, after no new one could begin. It would count
// again as soon as a later snapshot has the content of that one.
func (j *journal) discard(cause error) error {
	err := j.dir.Remove(journalFile)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = cmp.Or(err, j.dir.Sync()); err != nil {
		return fmt.Errorf("%w: begin a new journal: %w; remove the old one: %w", errOutcomeUnknown, cause, err)
	}
	j.log.Warn("cannot begin a journal of the registrations; each change writes all anew until one can begin", "error", cause)
	return nil
}

// begin makes the journal of a snapshot, given the snapshot's hash and size in bytes.
func (j *journal) begin(sum hash.Hash, size int64) error {
	header, err := json.Marshal(journalHeader{hex.EncodeToString(sum.Sum(nil))})
	if err != nil {
		return err
	}
	header = append(header, '\n')
	if err := j.dir.Replace(journalFile, func(w io.Writer) error { _, err := w.Write(header); return err }); err != nil {
		return err
	}
	return j.resume(int64(len(header)), size, 0)
}

// resume opens the journal to append at size, given the size of its snapshot, both in bytes, and
// the number of its changes.
func (j *journal) resume(size, snapshot int64, changes int) (err error) {
	if j.base, err = j.dir.Lstat(registrationsFile); err != nil {
		return err
	}
	if j.file, err = j.dir.Open(journalFile, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	j.size, j.limit, j.changes = size, max(minJournal, snapshot), changes
	if j.info, err = j.file.Stat(); err == nil {
		err = j.file.Truncate(size)
	}
	if err != nil {
		j.close()
	}
	return err
}

// close closes the file. The next write is a snapshot.
func (j *journal) close() {
	if j.file != nil {
		j.file.Close()
	}
	j.file = nil
}

// writeSnapshot writes registrations, one a line, to w and to sum. It returns the bytes written.
func writeSnapshot(w io.Writer, sum hash.Hash, all []json.RawMessage) (int64, error) {
	out, size := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10), 0
	write := func(b []byte) {
		n, _ := out.Write(b) // Flush returns the error
		size += n
	}
	write([]byte("["))
	for n, registration := range all {
		if n > 0 {
			write([]byte(","))
		}
		write([]byte("\n"))
		write(registration)
	}
	write([]byte("\n]\n"))
	return int64(size), out.Flush()
}

// parsedJournal is the content of a journal.
type parsedJournal struct {
	snapshot string // the SHA-256 of the snapshot that it continues, hexadecimal
	changes  []journalChange
	size     int64 // up to the end of the last change, in bytes
}

// continues reports whether the journal continues the snapshot with this content.
func (p parsedJournal) continues(snapshot []byte) bool {
	sum := sha256.Sum256(snapshot)
	return p.snapshot == hex.EncodeToString(sum[:])
}

// parseJournal parses a journal up to the first line that it cannot read. The error is errTorn, or
// names that line. An empty journal has no changes.
func parseJournal(content []byte) (p parsedJournal, err error) {
	for n, rest := 1, content; len(rest) > 0; n++ {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			return p, errTorn
		}
		if n == 1 {
			var header journalHeader
			if err := json.Unmarshal(line, &header); err != nil {
				return p, fmt.Errorf("line 1: %w", err)
			}
			p.snapshot = header.Snapshot
		} else {
			var c journalChange
			if err := json.Unmarshal(line, &c); err != nil {
				return p, fmt.Errorf("line %d: %w", n, err)
			}
			if (c.Put == nil) == (c.Delete == nil) {
				return p, fmt.Errorf("line %d is no change that this version knows", n)
			}
			p.changes = append(p.changes, c)
		}
		rest = after
		p.size = int64(len(content) - len(rest))
	}
	return p, nil
}
