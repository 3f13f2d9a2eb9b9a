package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// guardedKeys are the keys that a reload applies and that a file which is cut off must not take away.
var guardedKeys = append(slices.Clone(listKeys), "http.token_file", "http.anonymous")

// reloadedKeys are the keys that a reload applies. Other settings need a restart.
var reloadedKeys = append(slices.Clone(guardedKeys), "log.level")

// Reloads reports whether a reload applies a setting, given its key as [Config.Settings] has it.
func Reloads(key string) bool {
	list, _, _ := strings.Cut(key, "[")
	return slices.Contains(reloadedKeys, list)
}

// CheckValues returns an error, an [*Error], that names each key of the file which has no value
// although it holds, or is part of, what a reload applies. A file that is cut off ends in such a
// key. [Load] takes it for absent.
func (c *Config) CheckValues() error {
	return joined(c.valueless())
}

// CheckReload returns an error, an [*Error], if the file looks empty or cut off, as a full disk
// or an editor in the middle of its work leaves it: it would take away what before, the settings
// in force, have. Such a file is gone, is empty, lacks something that a reload applies and that
// the file before had, or has a key that [Config.CheckValues] names.
func (c *Config) CheckReload(before *Config) error {
	whole := func(name, text string) error {
		return joined([]problem{{at: origin{source: fromFile, name: name}, text: text}})
	}
	switch {
	case c.File == "" && before.File != "":
		return whole(before.File, "the config file is gone; put it back, or restart the agent without it")
	case c.emptyFile && !before.emptyFile:
		return whole(c.File, "the config file is empty; write it again, with services: [] if it is to have none")
	}
	return joined(append(c.missing(before), c.valueless()...))
}

// missing returns a problem for each of guardedKeys that gave before more than its
// default, and that the file lacks.
func (c *Config) missing(before *Config) []problem {
	var all []problem
	add := func(key, had, none string) {
		if slices.ContainsFunc(c.nulls, func(n problem) bool { return n.key == key }) {
			return // valueless has it
		}
		write := key + ": " + none
		if section, name, ok := strings.Cut(key, "."); ok {
			write = fmt.Sprintf("%s: {%s: %s}", section, name, none)
		}
		all = append(all, problem{at: origin{source: fromFile, name: c.File}, text: fmt.Sprintf("%s is missing, and the file before had %s; write %s for none", key, had, write)})
	}
	for _, key := range listKeys {
		if n := before.listLen(key); n > 0 && !c.lists[key] {
			add(key, strconv.Itoa(n), "[]")
		}
	}
	for _, s := range settings() {
		if !slices.Contains(guardedKeys, s.key) || before.origins[s.key].source != fromFile || c.origins[s.key].source != fromDefault || s.show(before) == s.show(c) {
			continue
		}
		add(s.key, s.show(before), cmp.Or(s.def, `""`))
	}
	return all
}

// listLen returns the length of a list of listKeys.
func (c *Config) listLen(key string) int {
	return map[string]int{"services": len(c.Services), "http.tokens": len(c.HTTP.Tokens), "http.clients": len(c.HTTP.Clients)}[key]
}

// valueless returns the problems of [Config.CheckValues]. A section without keys, and a setting
// that a flag or a variable gives, take nothing away.
func (c *Config) valueless() []problem {
	var all []problem
	for _, n := range c.nulls {
		o, isSetting := c.origins[n.key]
		if isSetting && o.source != fromDefault || !Reloads(n.key) {
			continue
		}
		n.text = "has no value, as where a file is cut off; give one, or remove the key"
		if slices.Contains(listKeys, n.key) {
			n.text = "has no value, as where a file is cut off; write [] for none"
		}
		all = append(all, n)
	}
	return all
}
