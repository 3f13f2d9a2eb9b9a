package config

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// annotation marks the flags of settings. A command that does not take a setting may define
// another flag of the same name.
const annotation = "disc_setting"

// AddFlags defines the flags of the settings in groups, for [Load] to read.
func AddFlags(flags *pflag.FlagSet, groups ...Group) {
	for _, s := range settings() {
		if slices.Contains(groups, s.group) {
			s.addFlag(flags)
		}
	}
}

func (s setting) addFlag(flags *pflag.FlagSet) {
	usage := s.doc + " [" + s.env() + "]"
	switch s.kind {
	case kindBool:
		flags.BoolP(s.flag, s.shorthand, false, usage)
	case kindList:
		flags.StringSliceP(s.flag, s.shorthand, s.split(s.def), usage)
	default:
		flags.StringP(s.flag, s.shorthand, s.def, usage)
	}
	flags.Lookup(s.flag).Annotations = map[string][]string{annotation: {s.key}}
}

// flagTexts returns the texts of the setting's flag, or nil if it was not given.
func (s setting) flagTexts(flags *pflag.FlagSet) []string {
	f := flags.Lookup(s.flag)
	if f == nil || !f.Changed || f.Annotations[annotation] == nil {
		return nil
	}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return []string{f.Value.String()}
}

// split splits the text of a variable or default into the texts of a value.
func (s setting) split(text string) []string {
	switch {
	case s.kind != kindList:
		return []string{text}
	case text == "":
		return nil
	}
	return strings.Split(text, ",")
}

// env returns the name of the setting's variable.
func (s setting) env() string {
	name := s.flag
	if name == "" {
		name = s.key
	}
	return variables + strings.ToUpper(strings.ReplaceAll(strings.ReplaceAll(name, "-", "_"), ".", "_"))
}
