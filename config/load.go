package config

import (
	"cmp"
	"errors"
	"os"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Load returns the settings. A flag of [AddFlags] takes precedence over its DISC_ variable,
// the variable over the config file, the file over the default. --config or DISC_CONFIG
// names the file; otherwise Load reads the first that exists of
// $XDG_CONFIG_HOME/disc/config.yaml and /etc/disc/config.yaml. With --config="" it reads
// none.
//
// The error, an [*Error], lists every problem at once. Load may be called again with the
// same flags, to pick up a changed file.
func Load(flags *pflag.FlagSet, host Host) (*Config, error) {
	l := loader{flags, host, host.defaults()}
	values, err := l.layer(nil)
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

// loader holds what one [Load] works with, besides the file.
type loader struct {
	flags    *pflag.FlagSet
	host     Host
	defaults map[string]string // those that depend on the host, by key
}

// value is a setting's value as one source gives it.
type value struct {
	texts  []string // exactly one unless the setting is a list
	origin origin
}

// build returns the settings, given the name and the content of the config file.
func (l loader) build(name string, data []byte) (*Config, error) {
	f, err := parseFile(name, data)
	if err != nil {
		return nil, err
	}
	values, err := l.layer(f.values)
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

// layer has viper choose each setting's value among flags, variables, file and defaults.
// The variables are merged over the file instead of bound, because viper binds only those
// of the process, not those of a [Host]. No key contains the delimiter, so that viper keeps
// the settings flat and skips its search through sections.
func (l loader) layer(file map[string]any) (map[string]value, error) {
	layers := viper.NewWithOptions(viper.KeyDelimiter("/"))
	variables, table := map[string]any{}, settings()
	var errs []error
	for _, s := range table {
		layers.SetDefault(s.key, value{s.split(cmp.Or(l.defaults[s.key], s.def)), origin{source: fromDefault}})
		if text, ok := l.host.get(s.env()); ok {
			variables[s.key] = value{s.split(text), origin{source: fromEnv, name: s.env()}}
		}
		if f := s.flagOf(l.flags); f != nil {
			errs = append(errs, layers.BindPFlag(s.key, f))
		}
	}
	errs = append(errs, layers.MergeConfigMap(file), layers.MergeConfigMap(variables))
	values := map[string]value{}
	for _, s := range table {
		values[s.key] = s.valueIn(layers)
	}
	return values, errors.Join(errs...)
}

// valueIn returns the setting's value in layers. Of the sources only a flag yields a plain
// text or list; the others yield a value that holds its origin.
func (s setting) valueIn(layers *viper.Viper) value {
	if v, ok := layers.Get(s.key).(value); ok {
		return v
	}
	v := value{[]string{layers.GetString(s.key)}, origin{source: fromFlag, name: s.flag}}
	if s.kind == kindList {
		v.texts = layers.GetStringSlice(s.key)
	}
	return v
}
