package agent

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"disc/discovery"
)

// dataDir is where an agent keeps what outlives it: its owner id, the registrations
// that it was given through the API, the address that it advertised, and the last good
// view. It is locked against a second agent. One that
// cannot be written costs a warning and the memory, not the service.
type dataDir struct {
	path     string
	lock     *os.File // nil: what is there may be another agent's too
	log      *slog.Logger
	writable bool
}

var errNotWritable = errors.New("the data directory could not be written when the agent started; mend it and start the agent again")

// openDataDir makes, locks and tries the directory. It fails only when another agent
// holds it.
func openDataDir(path string, log *slog.Logger) (*dataDir, error) {
	d := &dataDir{path: path, log: log}
	if err := os.MkdirAll(path, 0o700); err != nil {
		log.Warn("data directory cannot be made; registrations are forgotten with this process", "error", err)
		return d, nil
	}
	name := filepath.Join(path, "lock")
	lock, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	writable := err == nil
	if !writable {
		log.Warn("data directory cannot be written; registrations are forgotten with this process", "error", err)
		if lock, err = os.Open(name); err != nil {
			return d, nil
		}
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s is in use by another agent; stop that one, or give this one its own with --data-dir", path)
		}
		log.Warn("data directory cannot be locked", "error", err)
		return d, nil
	}
	d.lock, d.writable = lock, writable
	return d, nil
}

func (d *dataDir) close() {
	if d.lock != nil {
		d.lock.Close()
	}
}

// owner returns the agent's id, making it at the first start.
func (d *dataDir) owner() string {
	name := filepath.Join(d.path, "owner")
	if d.lock != nil {
		if b, err := os.ReadFile(name); err == nil && discovery.ValidateID(strings.TrimSpace(string(b))) == nil {
			return strings.TrimSpace(string(b))
		}
	}
	id := strings.ToLower(rand.Text())
	d.write(name, []byte(id+"\n"))
	return id
}

// address returns the address that was advertised last; "" if none was kept.
func (d *dataDir) address() string {
	b, err := os.ReadFile(d.addressFile())
	address := strings.TrimSpace(string(b))
	if _, parseErr := netip.ParseAddr(address); err != nil || parseErr != nil {
		return ""
	}
	return address
}

// saveAddress keeps the advertised address for a start without a way to etcd.
func (d *dataDir) saveAddress(address string) {
	if d.address() != address {
		d.write(d.addressFile(), []byte(address+"\n"))
	}
}

func (d *dataDir) addressFile() string { return filepath.Join(d.path, "address") }

// registrations returns what was kept, sorted as it was.
func (d *dataDir) registrations() []discovery.Registration {
	b, err := os.ReadFile(d.registrationsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var kept []discovery.Registration
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if err != nil {
		aside := d.registrationsFile() + ".unreadable"
		d.log.Error("kept registrations cannot be read; they are set aside, register the instances again", "file", aside, "error", err,
			"rename", os.Rename(d.registrationsFile(), aside))
		return nil
	}
	return kept
}

// saveRegistrations writes the registrations to the directory.
func (d *dataDir) saveRegistrations(all []discovery.Registration) {
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		d.log.Error("registrations cannot be encoded", "error", err)
		return
	}
	d.write(d.registrationsFile(), b)
}

// lastGoodFile is where the catalog keeps its last good view.
func (d *dataDir) lastGoodFile() string { return filepath.Join(d.path, "last-good") }

// Load implements catalog.Store.
func (d *dataDir) Load() ([]byte, time.Time, error) {
	b, err := os.ReadFile(d.lastGoodFile())
	if err != nil {
		return nil, time.Time{}, err
	}
	info, err := os.Stat(d.lastGoodFile())
	if err != nil {
		return nil, time.Time{}, err
	}
	return b, info.ModTime(), nil
}

// Save implements catalog.Store.
func (d *dataDir) Save(write func(io.Writer) error) error {
	if !d.writable {
		return errNotWritable
	}
	return replaceFile(d.lastGoodFile(), write)
}

// Touch implements catalog.Store.
func (d *dataDir) Touch() error {
	if !d.writable {
		return errNotWritable
	}
	now := time.Now()
	return os.Chtimes(d.lastGoodFile(), now, now)
}

func (d *dataDir) registrationsFile() string { return filepath.Join(d.path, "registrations.json") }

// write replaces a file as a whole, or leaves the old one as it was.
func (d *dataDir) write(name string, content []byte) {
	if !d.writable {
		return
	}
	if err := replaceFile(name, func(w io.Writer) error { _, err := w.Write(content); return err }); err != nil {
		d.log.Warn("cannot write to the data directory; what is kept there is out of date", "error", err)
	}
}

// replaceFile has a temporary file written beside name, syncs it and renames it. It is
// always the same one, so that what a killed agent left is used up by the next.
func replaceFile(name string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err = errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
