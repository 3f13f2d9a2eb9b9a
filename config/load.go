package config

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"disc/config/input"
)

// Load returns the settings. A flag of [AddFlags] takes precedence over its DISC_ variable,
// the variable over the config file, the file over the default. --config or DISC_CONFIG
// names the file; otherwise Load reads the first that exists of
// $XDG_CONFIG_HOME/disc/config.yaml and /etc/disc/config.yaml. With --config="" it reads
// none.
//
// The error, an [*Error], lists every problem at once; when ctx ends before the file is
// read, it is that of ctx. Load may be called again with the same flags, to pick up a
// changed file.
func Load(ctx context.Context, flags *pflag.FlagSet, host Host) (*Config, error) {
	l := loader{flags, host, host.defaults()}
	values, err := l.layer(nil)
	if err != nil {
		return nil, err
	}
	path, from := values["config"].texts[0], values["config"].origin
	var data []byte
	if path != "" {
		if data, err = input.ReadFile(ctx, path, input.MaxSettings); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			return nil, joined([]problem{{from, "config", "read the config file: " + err.Error()}})
		}
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
	c := &Config{origins: map[string]origin{}, nulls: f.nulls, lists: map[string]bool{}, emptyFile: len(f.lines) == 0}
	for _, key := range listKeys {
		c.lists[key] = f.lines[key] > 0
	}
	check := checker{c, f, slices.Clone(f.problems)}
	for _, s := range settings() {
		c.origins[s.key] = values[s.key].origin
		if err := s.set(c, values[s.key].texts); err != nil {
			check.add(s.key, err)
		}
	}
	c.raiseLogLevel()
	check.access()
	check.settings()
	check.services()
	if err := joined(f.problems); err != nil {
		return nil, err
	}
	return c, nil
}

// layer has viper choose each setting's value among flags, variables, file and defaults.
// Every source gives a [value], which keeps its origin. Variables are merged over the file
// instead of bound, because viper binds only those of the process, not those of a [Host].
// No key contains the delimiter, so viper keeps the settings flat.
func (l loader) layer(file map[string]any) (map[string]value, error) {
	layers, variables, table := viper.NewWithOptions(viper.KeyDelimiter("/")), map[string]any{}, settings()
	for _, s := range table {
		layers.SetDefault(s.key, value{s.split(cmp.Or(l.defaults[s.key], s.def)), origin{source: fromDefault}})
		if text, ok := l.host.get(s.env()); ok {
			variables[s.key] = value{s.split(text), origin{source: fromEnv, name: s.env()}}
		}
		if texts := s.flagTexts(l.flags); texts != nil {
			layers.Set(s.key, value{texts, origin{source: fromFlag, name: s.flag}})
		}
	}
	if err := errors.Join(layers.MergeConfigMap(file), layers.MergeConfigMap(variables)); err != nil {
		return nil, err
	}
	values := map[string]value{}
	for _, s := range table {
		values[s.key] = layers.Get(s.key).(value)
	}
	return values, nil
}
