package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Host is what settings depend on besides file and flags.
type Host struct {
	Hostname string // the default node; "" when it is unknown
	EUID     int    // effective user id; 0 is root
	Env      func(name string) (value string, ok bool)
}

// ThisHost returns the host, user and environment of this process.
func ThisHost() Host {
	name, err := os.Hostname()
	if err != nil {
		name = "" // --node is then required, and the settings' error says so
	}
	return Host{Hostname: name, EUID: os.Geteuid(), Env: os.LookupEnv}
}

// get returns a variable; an empty one counts as absent.
func (h Host) get(name string) (string, bool) {
	value, ok := h.Env(name)
	return value, ok && value != ""
}

// dataDir is the default of data_dir.
func (h Host) dataDir() string {
	if base, ok := h.xdg("XDG_STATE_HOME", ".local/state"); ok && h.EUID != 0 {
		return filepath.Join(base, "disc")
	}
	return "/var/lib/disc"
}

// configFiles are where the config file is looked for, the best first.
func (h Host) configFiles() []string {
	const system = "/etc/disc/config.yaml"
	if base, ok := h.xdg("XDG_CONFIG_HOME", ".config"); ok {
		return []string{filepath.Join(base, "disc/config.yaml"), system}
	}
	return []string{system}
}

// configFile returns the first config file that there is; "" without one. A file that
// may not be looked at is there: reading it will say what is wrong.
func (h Host) configFile() string {
	for _, path := range h.configFiles() {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path
		}
	}
	return ""
}

// xdg returns a base directory of the XDG specification, by which a path that is not
// absolute is ignored.
func (h Host) xdg(variable, below string) (string, bool) {
	if base, ok := h.get(variable); ok && filepath.IsAbs(base) {
		return base, true
	}
	home, ok := h.get("HOME")
	return filepath.Join(home, below), ok && filepath.IsAbs(home)
}
