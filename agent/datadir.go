package agent

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"disc/config/safefile"
	"disc/discovery"
)

// The files of the data directory.
const (
	lockFile          = "lock"
	ownerFile         = "owner"
	addressFile       = "address"
	registrationsFile = "registrations.json"
	journalFile       = "registrations.journal"
	lastGoodFile      = "last-good"
)

// dataDir is the directory of an agent's persistent state: its owner id, the registrations from
// the API, the advertised address, and the last good view. A lock keeps a second agent out. If
// it cannot be written, the agent warns, runs without it, and forgets its state at the end.
type dataDir struct {
	dir      *safefile.Dir // nil: there is none
	lock     *os.File      // nil: not locked, so the files may be another agent's
	log      *slog.Logger
	writable bool
}

var errNotWritable = errors.New("the data directory was not writable when the agent started; repair it and restart the agent")

// errNoDirectory is the error of all files of a data directory that could not be made.
var errNoDirectory = fmt.Errorf("there is no data directory: %w", fs.ErrNotExist)

// openDataDir makes and locks the directory. It fails when another agent has locked it, and when
// another user could change the directory or one of its files, unless shared says to accept that.
func openDataDir(path string, shared bool, log *slog.Logger) (*dataDir, error) {
	d := &dataDir{log: log}
	if err := d.open(path, shared); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *dataDir) open(path string, shared bool) (err error) {
	if d.dir, err = safefile.MakeDir(path); err == nil {
		if shared {
			d.dir.Tolerate(warnShared(d.log))
		}
		err = d.checkOwners()
	}
	if errors.Is(err, safefile.ErrUntrusted) {
		return explainUntrusted(path, err)
	}
	if err != nil {
		d.log.Warn("cannot create or read the data directory; registrations are lost when this process ends", "error", err)
		return nil
	}
	if shared {
		d.dir.Tolerate(func(error) {}) // checkOwners has named them
	}
	d.checkAbove()
	lock, err := d.dir.Open(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, safefile.ErrUntrusted) {
		return explainUntrusted(path, err)
	}
	writable := err == nil
	if !writable {
		d.log.Warn("cannot write to the data directory; registrations are lost when this process ends", "error", err)
		if lock, err = d.dir.Open(lockFile, os.O_RDONLY, 0); err != nil {
			return nil
		}
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("data directory %s is in use by another agent; stop that one, or give this one its own with --data-dir", path)
		}
		d.log.Warn("cannot lock the data directory", "error", err)
		return nil
	}
	d.lock, d.writable = lock, writable
	return nil
}

// explainUntrusted is the error of a start with a data directory that another user could change.
func explainUntrusted(path string, err error) error {
	return fmt.Errorf("data directory %s: %w (--data-dir)", path, AdviseShared(err))
}

// AdviseShared adds to a [safefile.ErrShared] which setting accepts it.
func AdviseShared(err error) error {
	if !errors.Is(err, safefile.ErrShared) {
		return err
	}
	return fmt.Errorf("%w; where neither is possible, allow_shared_dirs: true in the config file accepts it", err)
}

// warnShared returns a function that logs what allow_shared_dirs accepts.
func warnShared(log *slog.Logger) func(error) {
	return func(err error) {
		log.Warn("others could change the agent's state or take the place of its socket; accepted, since allow_shared_dirs is set", "reason", err)
	}
}

// checkAbove warns where another user could put another directory in the place of this one.
func (d *dataDir) checkAbove() {
	above, err := d.dir.Above()
	if err != nil {
		return // it cannot be looked at
	}
	defer above.Close()
	if err := above.Stable(); errors.Is(err, safefile.ErrShared) {
		d.log.Warn("others could put another directory in the place of the data directory before the next start; set the sticky bit of the directory above (chmod +t), or let only root or this user write to it", "reason", err)
	}
}

// checkOwners returns a [safefile.ErrUntrusted] if another user could change the directory or a
// file in it.
func (d *dataDir) checkOwners() error {
	if err := d.dir.Private(); err != nil {
		return err
	}
	for _, name := range []string{lockFile, ownerFile, addressFile, registrationsFile, journalFile, lastGoodFile} {
		f, err := d.dir.Open(name, os.O_RDONLY, 0)
		if err == nil {
			f.Close()
		} else if errors.Is(err, safefile.ErrUntrusted) {
			return err
		}
	}
	return nil
}

func (d *dataDir) close() {
	if d.lock != nil {
		d.lock.Close()
	}
	if d.dir != nil {
		d.dir.Close()
	}
}

// read returns the content of a file.
func (d *dataDir) read(name string) ([]byte, error) {
	if d.dir == nil {
		return nil, errNoDirectory
	}
	return d.dir.ReadFile(name)
}

// owner returns the agent's owner id. The first start makes it.
func (d *dataDir) owner() string {
	if d.lock != nil {
		if b, err := d.read(ownerFile); err == nil && discovery.ValidateID(strings.TrimSpace(string(b))) == nil {
			return strings.TrimSpace(string(b))
		}
	}
	id := strings.ToLower(rand.Text())
	d.write(ownerFile, []byte(id+"\n"))
	return id
}

// address returns the saved address; "" if there is none.
func (d *dataDir) address() string {
	b, err := d.read(addressFile)
	address := strings.TrimSpace(string(b))
	if _, parseErr := netip.ParseAddr(address); err != nil || parseErr != nil {
		return ""
	}
	return address
}

// saveAddress saves the advertised address for a start without a route to etcd.
func (d *dataDir) saveAddress(address string) {
	if d.address() != address {
		d.write(addressFile, []byte(address+"\n"))
	}
}

// Load implements catalog.Store.
func (d *dataDir) Load() ([]byte, time.Time, error) {
	if d.dir == nil {
		return nil, time.Time{}, errNoDirectory
	}
	f, err := d.dir.Open(lastGoodFile, os.O_RDONLY, 0)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	b, err := io.ReadAll(f)
	return b, info.ModTime(), err
}

// Save implements catalog.Store.
func (d *dataDir) Save(write func(io.Writer) error) error {
	if !d.writable {
		return errNotWritable
	}
	return d.dir.Replace(lastGoodFile, write)
}

// Touch implements catalog.Store.
func (d *dataDir) Touch() error {
	if !d.writable {
		return errNotWritable
	}
	return d.dir.Touch(lastGoodFile, time.Now())
}

// write replaces a file, or warns and leaves it as it was.
func (d *dataDir) write(name string, content []byte) {
	if !d.writable {
		return
	}
	if err := d.dir.Replace(name, func(w io.Writer) error { _, err := w.Write(content); return err }); err != nil {
		d.log.Warn("cannot write to the data directory; its files are out of date", "error", err)
	}
}
