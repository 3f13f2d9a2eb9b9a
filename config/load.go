package config

import (
	"os"

	"github.com/spf13/pflag"
)

// Load returns the settings: a flag of [AddFlags] goes before its DISC_ variable, that
// before the config file, that before the default. The file is the one that --config or
// DISC_CONFIG names, or the first that exists of $XDG_CONFIG_HOME/disc/config.yaml and
// /etc/disc/config.yaml; with --config="" none is read.
//
// The error, an [*Error], tells all that is wrong at once. Load may be called again with
// the same flags to see what has changed.
func Load(flags *pflag.FlagSet, host Host) (*Config, error) {
	l := loader{flags, host, map[string]string{
		"config": host.configFile(), "node": host.Hostname, "data_dir": host.dataDir(),
	}}
	values := l.merge(nil)
	path, from := values["config"].texts[0], values["config"].origin
	if path == "" {
		return l.build("", nil)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, joined([]problem{{from, "config", "read the config file: " + err.Error()}})
	}
	return l.build(path, data)
}

// loader is one Load under way.
type loader struct {
	flags    *pflag.FlagSet
	host     Host
	defaults map[string]string // those that depend on the host, by key
}

// value is what one source says of a setting.
type value struct {
	texts  []string // exactly one unless the setting is a list
	origin origin
}

// build makes the settings with the content of a config file.
func (l loader) build(name string, data []byte) (*Config, error) {
	f, err := parseFile(name, data)
	if err != nil {
		return nil, err
	}
	values := l.merge(f.values)
	c := &Config{origins: map[string]origin{}}
	check := checker{Config: c, problems: f.problems}
	for _, s := range settings() {
		c.origins[s.key] = values[s.key].origin
		if err := s.set(c, values[s.key].texts); err != nil {
			check.add(s.key, err)
		}
	}
	c.raiseLogLevel()
	check.settings()
	check.services(f)
	if err := joined(check.problems); err != nil {
		return nil, err
	}
	return c, nil
}

// merge lays the sources over each other, each value with its origin.
func (l loader) merge(file map[string]value) map[string]value {
	merged := map[string]value{}
	for _, s := range settings() {
		if texts, ok := s.given(l.flags); ok {
			merged[s.key] = value{texts, origin{source: fromFlag, name: s.flag}}
		} else if text, ok := l.host.get(s.env()); ok {
			merged[s.key] = value{s.texts(text), origin{source: fromEnv, name: s.env()}}
		} else if v, ok := file[s.key]; ok {
			merged[s.key] = v
		} else {
			merged[s.key] = value{s.texts(l.defaultOf(s)), origin{source: fromDefault}}
		}
	}
	return merged
}

func (l loader) defaultOf(s setting) string {
	if def, ok := l.defaults[s.key]; ok {
		return def
	}
	return s.def
}
