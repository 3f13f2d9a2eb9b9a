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

// dataDir is the directory of an agent's persistent state: its owner id, the registrations from
// the API, the advertised address, and the last good view. A lock keeps a second agent out. If
// it cannot be written, the agent warns, runs without it, and forgets its state at the end.
type dataDir struct {
	path     string
	lock     *os.File // nil: not locked, so the files may be another agent's
	log      *slog.Logger
	writable bool
}

var errNotWritable = errors.New("the data directory was not writable when the agent started; repair it and restart the agent")

// openDataDir makes and locks the directory. It fails only when another agent has locked it.
func openDataDir(path string, log *slog.Logger) (*dataDir, error) {
	d := &dataDir{path: path, log: log}
	if err := os.MkdirAll(path, 0o700); err != nil {
		log.Warn("cannot create the data directory; registrations are lost when this process ends", "error", err)
		return d, nil
	}
	name := filepath.Join(path, "lock")
	lock, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	writable := err == nil
	if !writable {
		log.Warn("cannot write to the data directory; registrations are lost when this process ends", "error", err)
		if lock, err = os.Open(name); err != nil {
			return d, nil
		}
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s is in use by another agent; stop that one, or give this one its own with --data-dir", path)
		}
		log.Warn("cannot lock the data directory", "error", err)
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

// owner returns the agent's owner id. The first start makes it.
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

// address returns the saved address; "" if there is none.
func (d *dataDir) address() string {
	b, err := os.ReadFile(d.addressFile())
	address := strings.TrimSpace(string(b))
	if _, parseErr := netip.ParseAddr(address); err != nil || parseErr != nil {
		return ""
	}
	return address
}

// saveAddress saves the advertised address for a start without a route to etcd.
func (d *dataDir) saveAddress(address string) {
	if d.address() != address {
		d.write(d.addressFile(), []byte(address+"\n"))
	}
}

func (d *dataDir) addressFile() string { return filepath.Join(d.path, "address") }

// registrations returns the saved registrations, in their order. It renames a file that cannot
// be read, and logs an error.
func (d *dataDir) registrations() []discovery.Registration {
	b, err := os.ReadFile(d.registrationsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var saved []discovery.Registration
	if err == nil {
		err = json.Unmarshal(b, &saved)
	}
	if err != nil {
		renamed := d.registrationsFile() + ".unreadable"
		d.log.Error("cannot read the saved registrations; they are set aside, register the instances again", "file", renamed, "error", err,
			"rename", os.Rename(d.registrationsFile(), renamed))
		return nil
	}
	return saved
}

// saveRegistrations replaces the saved registrations.
func (d *dataDir) saveRegistrations(all []discovery.Registration) {
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		d.log.Error("cannot encode the registrations", "error", err)
		return
	}
	d.write(d.registrationsFile(), b)
}

// lastGoodFile returns the path of the catalog's last good view.
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

// write replaces a file, or warns and leaves it as it was.
func (d *dataDir) write(name string, content []byte) {
	if !d.writable {
		return
	}
	if err := replaceFile(name, func(w io.Writer) error { _, err := w.Write(content); return err }); err != nil {
		d.log.Warn("cannot write to the data directory; its files are out of date", "error", err)
	}
}

// replaceFile replaces a file atomically: it writes a temporary file beside it, syncs it and
// renames it. The temporary name is always the same, so that the next agent overwrites what a
// killed one left.
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
