package config

import (
	"fmt"
	"slices"
	"strings"
)

// reloadedKeys are the keys that a reload applies. Other settings need a restart.
var reloadedKeys = append(slices.Clone(listKeys), "http.token_file", "http.anonymous")

// Reloads reports whether a reload applies a setting, given its key as [Config.Settings] has it.
func Reloads(key string) bool {
	list, _, _ := strings.Cut(key, "[")
	return slices.Contains(reloadedKeys, list)
}

// CheckValues returns an error, an [*Error], that names each key of the file which has no value
// and which a reload applies, or which is a section of such keys. A file that is cut off ends in
// such a key. [Load] takes it for absent.
func (c *Config) CheckValues() error {
	return joined(c.valueless())
}

// CheckReload returns an error, an [*Error], if the file looks empty or cut off, as a full disk
// or an editor in the middle of its work leaves it: it would take away what before, the settings
// in force, have. Such a file is gone, is empty, has no services any more, or has a key that
// [Config.CheckValues] names.
func (c *Config) CheckReload(before *Config) error {
	whole := func(name, text string) error {
		return joined([]problem{{at: origin{source: fromFile, name: name}, text: text}})
	}
	switch {
	case c.File == "" && before.File != "":
		return whole(before.File, "the config file is gone; put it back, or restart the agent without it")
	case c.emptyFile && !before.emptyFile:
		return whole(c.File, "the config file is empty; write it again, with services: [] if it is to have none")
	case c.servicesLine == 0 && len(before.Services) > 0:
		return whole(c.File, fmt.Sprintf("services is missing, and the file before had %d; write services: [] for none", len(before.Services)))
	}
	return c.CheckValues()
}

// valueless returns the problems of [Config.CheckValues].
func (c *Config) valueless() []problem {
	var all []problem
	for _, n := range c.nulls {
		if !slices.ContainsFunc(reloadedKeys, func(key string) bool { return concerns(n.key, key) }) {
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

// concerns reports whether path is a key, a part of its value, or a section that it is in.
func concerns(path, key string) bool {
	return path == key || strings.HasPrefix(path, key+"[") || strings.HasPrefix(path, key+".") || strings.HasPrefix(key, path+".")
}
