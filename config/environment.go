package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Host holds the facts of a host and process that settings depend on.
type Host struct {
	Hostname string // default of node; "" if unknown
	EUID     int    // effective user id; 0 is root
	Env      func(name string) (value string, ok bool)
}

// ThisHost returns the Host of this process.
func ThisHost() Host {
	name, err := os.Hostname()
	if err != nil {
		name = "" // Load then reports that node is empty
	}
	return Host{Hostname: name, EUID: os.Geteuid(), Env: os.LookupEnv}
}

// get returns a variable. An empty one counts as unset.
func (h Host) get(name string) (string, bool) {
	value, ok := h.Env(name)
	return value, ok && value != ""
}

// defaults returns the defaults that depend on the host, by key.
func (h Host) defaults() map[string]string {
	return map[string]string{"config": h.configFile(), "node": h.Hostname, "data_dir": h.dataDir()}
}

// dataDir returns the default of data_dir.
func (h Host) dataDir() string {
	if base, ok := h.xdg("XDG_STATE_HOME", ".local/state"); ok && h.EUID != 0 {
		return filepath.Join(base, "disc")
	}
	return "/var/lib/disc"
}

// configFile returns the default of config: the first config file that exists, or "". A
// file that cannot be inspected counts as existing, so that reading it reports the error.
func (h Host) configFile() string {
	paths := []string{"/etc/disc/config.yaml"}
	if base, ok := h.xdg("XDG_CONFIG_HOME", ".config"); ok {
		paths = []string{filepath.Join(base, "disc/config.yaml"), paths[0]}
	}
	for _, path := range paths {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path
		}
	}
	return ""
}

// xdg returns a base directory of the XDG Base Directory Specification: that of the
// variable, or else the one below HOME. The specification ignores relative paths.
func (h Host) xdg(variable, below string) (string, bool) {
	if base, ok := h.get(variable); ok && filepath.IsAbs(base) {
		return base, true
	}
	home, ok := h.get("HOME")
	return filepath.Join(home, below), ok && filepath.IsAbs(home)
}
