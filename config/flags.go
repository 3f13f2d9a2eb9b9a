package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// annotation marks the flags that AddFlags made, so that a command may have a flag of
// its own by the name of a setting that it does not take.
const annotation = "disc_setting"

// AddFlags defines the flags of groups. Their values are read by [Load].
func AddFlags(flags *pflag.FlagSet, groups ...Group) {
	for _, s := range settings() {
		for _, g := range groups {
			if s.group == g {
				s.addFlag(flags)
			}
		}
	}
}

func (s setting) addFlag(flags *pflag.FlagSet) {
	usage := s.doc + " [" + s.env() + "]"
	switch s.kind {
	case kindBool:
		flags.BoolP(s.flag, s.shorthand, false, usage)
	case kindList:
		flags.StringSliceP(s.flag, s.shorthand, splitList(s.def), usage)
	default:
		flags.StringP(s.flag, s.shorthand, s.def, usage)
	}
	flags.Lookup(s.flag).Annotations = map[string][]string{annotation: {s.key}}
}

// given returns what the setting's flag was given.
func (s setting) given(flags *pflag.FlagSet) ([]string, bool) {
	f := flags.Lookup(s.flag)
	if f == nil || !f.Changed || f.Annotations[annotation] == nil {
		return nil, false
	}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice(), true
	}
	return []string{f.Value.String()}, true
}

// texts splits what a variable or default says.
func (s setting) texts(text string) []string {
	if s.kind == kindList {
		return splitList(text)
	}
	return []string{text}
}

func splitList(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// env is the name of the setting's variable.
func (s setting) env() string {
	name := s.flag
	if name == "" {
		name = s.key
	}
	return "DISC_" + strings.ToUpper(strings.ReplaceAll(strings.ReplaceAll(name, "-", "_"), ".", "_"))
}
