package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Host holds the facts of a host and process that settings depend on.
type Host struct {
	Hostname string // default of node; "" if unknown
	EUID     int    // effective user id; 0 is root
	Env      func(name string) (value string, ok bool)
	Environ  func() []string // all variables, as "name=value"; nil: they are not looked through
}

// ThisHost returns the Host of this process.
func ThisHost() Host {
	name, err := os.Hostname()
	if err != nil {
		name = "" // Load then reports that node is empty
	}
	return Host{Hostname: name, EUID: os.Geteuid(), Env: os.LookupEnv, Environ: os.Environ}
}

// get returns a variable. An empty one counts as unset.
func (h Host) get(name string) (string, bool) {
	value, ok := h.Env(name)
	return value, ok && value != ""
}

// variables is how the variables of disc begin.
const variables = "DISC_"

// kubernetesVariable matches the variables, as NAME=value, that Kubernetes gives to containers beside
// a service whose name begins with disc, such as DISC_PORT_3472_TCP_ADDR. The value of one that ends
// in _PORT is a URL: DISC_HTTP_PORT=8080 is somebody's mistake.
var kubernetesVariable = regexp.MustCompile(`^[A-Z0-9_]+(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|^[A-Z0-9_]+_PORT=(tcp|udp|sctp)://`)

// UnknownVariable is a variable that looks like one of disc, and that nothing reads.
type UnknownVariable struct {
	Name    string
	Nearest string // the variable that was meant, perhaps; "": none is near
}

// UnknownVariables returns the variables that begin with DISC_ and belong neither to a setting nor to
// others, sorted. An empty one counts as unset.
func (h Host) UnknownVariables(others ...string) []UnknownVariable {
	if h.Environ == nil {
		return nil
	}
	var known []string // in lower case, without the beginning
	for _, s := range settings() {
		others = append(others, s.env())
	}
	for _, name := range others {
		known = append(known, strings.ToLower(strings.TrimPrefix(name, variables)))
	}
	var all []UnknownVariable
	for _, variable := range h.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		own, ok := strings.CutPrefix(strings.ToUpper(name), variables)
		if !ok || value == "" || slices.Contains(others, name) || kubernetesVariable.MatchString(variable) {
			continue
		}
		unknown := UnknownVariable{Name: name}
		if meant := nearest(own, known); meant != "" {
			unknown.Nearest = variables + strings.ToUpper(meant)
		}
		all = append(all, unknown)
	}
	slices.SortFunc(all, func(a, b UnknownVariable) int { return strings.Compare(a.Name, b.Name) })
	return all
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
