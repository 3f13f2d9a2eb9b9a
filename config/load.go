package config

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
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
	values, err := l.merge(nil)
	if err != nil {
		return nil, err
	}
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
	values, err := l.merge(f.values)
	if err != nil {
		return nil, err
	}
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

// merge lays the sources over each other, each value with its origin. Viper's own
// reading of files and variables is not used: it loses the case of keys, the lines, and
// the commas of lists.
func (l loader) merge(file map[string]any) (map[string]value, error) {
	v := viper.New()
	variables := map[string]any{}
	for _, s := range settings() {
		v.SetDefault(s.key, value{s.texts(l.defaultOf(s)), origin{source: fromDefault}})
		if text, ok := l.host.get(s.env()); ok {
			variables[s.key] = value{s.texts(text), origin{source: fromEnv, name: s.env()}}
		}
		if texts, ok := s.given(l.flags); ok {
			v.Set(s.key, value{texts, origin{source: fromFlag, name: s.flag}})
		}
	}
	for _, layer := range []map[string]any{file, variables} {
		if err := v.MergeConfigMap(layer); err != nil {
			return nil, fmt.Errorf("merge settings: %w", err)
		}
	}
	merged := map[string]value{}
	for _, s := range settings() {
		merged[s.key] = v.Get(s.key).(value)
	}
	return merged, nil
}

func (l loader) defaultOf(s setting) string {
	if def, ok := l.defaults[s.key]; ok {
		return def
	}
	return s.def
}
