package agent

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"syscall"

	"disc/config/safefile"
)

// minJournal is the size below which a journal is not folded into a snapshot, in bytes.
const minJournal = 1 << 20

// journalHeaderSize is the size of a journal without changes, in bytes.
const journalHeaderSize = int64(len(`{"snapshot":""}`) + 2*sha256.Size + 1)

// journal writes the saved registrations to two files of the data directory, so that a change
// costs one line and one sync.
//
//	registrations.json     the snapshot: a JSON array of registrations, as all versions read it
//	registrations.journal  the changes since, one a line
//
// The first line of the journal has the SHA-256 of the snapshot that it continues. A journal of
// another snapshot is ignored: the agent was killed between the two files of a new snapshot,
// which has the journal's changes, or an earlier version has written registrations.json since.
type journal struct {
	dir   *safefile.Dir
	base  fs.FileInfo // of the snapshot
	file  *os.File    // open to append; nil: the next write is a snapshot
	size  int64       // of file, up to the end of the last change on disk
	limit int64       // the size from which on a snapshot is due
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

// errTorn is the error of a journal whose last line is cut off, as by a power cut: nobody was
// told that this change is saved.
var errTorn = errors.New("the last line is cut off")

// ready reports whether a change can be appended. It cannot when somebody has deleted the journal,
// or deleted or changed the snapshot.
func (j *journal) ready() bool {
	if j.file == nil {
		return false
	}
	info, err := j.file.Stat()
	if err == nil && info.Sys().(*syscall.Stat_t).Nlink > 0 {
		base, err := j.dir.Lstat(registrationsFile)
		if err == nil && os.SameFile(base, j.base) && base.ModTime().Equal(j.base.ModTime()) {
			return true
		}
	}
	j.close()
	return false
}

// due reports whether the journal has grown so large that a snapshot is to replace it.
func (j *journal) due() bool { return j.file != nil && j.size >= j.limit }

// append writes changes, whole lines, to the disk. On an error none of them counts.
func (j *journal) append(lines []byte) error {
	if _, err := j.file.Write(lines); err != nil {
		if j.file.Truncate(j.size) != nil {
			j.close()
		}
		return err
	}
	if err := j.file.Sync(); err != nil {
		j.close() // nobody knows what is on the disk
		return err
	}
	j.size += int64(len(lines))
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
		}
		return err
	}
	j.close()
	if j.begin(sum, size) != nil {
		j.close() // the snapshot has all, and the next write is one again
	}
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
	return j.resume(int64(len(header)), size)
}

// resume opens the journal to append at size, given the size of its snapshot, both in bytes.
func (j *journal) resume(size, snapshot int64) (err error) {
	if j.base, err = j.dir.Lstat(registrationsFile); err != nil {
		return err
	}
	if j.file, err = j.dir.Open(journalFile, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	j.size, j.limit = size, max(minJournal, snapshot)
	if err = j.file.Truncate(size); err != nil {
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

// readJournal calls apply for each change since the snapshot with this content. It returns the
// size of the journal up to its last whole change, 0 if it does not continue this snapshot. The
// error is errTorn, or names the first line that cannot be read; no change after it is applied.
func readJournal(dir *safefile.Dir, snapshot []byte, apply func(journalChange)) (size int64, err error) {
	b, err := dir.ReadFile(journalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(snapshot)
	line, rest, whole := bytes.Cut(b, []byte("\n"))
	var header journalHeader
	if !whole || json.Unmarshal(line, &header) != nil || header.Snapshot != hex.EncodeToString(sum[:]) {
		return 0, nil
	}
	for n := 2; ; n++ {
		size = int64(len(b) - len(rest))
		if len(rest) == 0 {
			return size, nil
		}
		if line, rest, whole = bytes.Cut(rest, []byte("\n")); !whole {
			return size, errTorn
		}
		var c journalChange
		if err := json.Unmarshal(line, &c); err != nil {
			return size, fmt.Errorf("line %d: %w", n, err)
		}
		if (c.Put == nil) == (c.Delete == nil) {
			return size, fmt.Errorf("line %d is no change that this version knows", n)
		}
		apply(c)
	}
}
