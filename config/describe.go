package config

import "strings"

// Description describes a setting.
type Description struct {
	Key      string // in the config file, if InFile
	Flag     string // such as "-n, --namespace"; "": none
	Everyone bool   // the flag is of all commands, and not only of those that run an agent
	Variable string // "": none
	Default  string // without what depends on the host
	Meaning  string
	InFile   bool
	Reloads  bool // a reload applies it
}

// listMeanings describes the lists of listKeys.
var listMeanings = map[string]string{
	"services":     "instances that the agent registers and checks",
	"http.tokens":  "named tokens, each with a name, the SHA-256 of the token, and scopes; 'disc token' makes one",
	"http.clients": "client certificates, each with a name and scopes",
}

// Describe describes every setting, in the order of the table, and then the lists of the file.
func Describe() []Description {
	var all []Description
	for _, s := range settings() {
		d := Description{Key: s.key, Variable: s.env(), Default: s.def, Meaning: s.doc, Everyone: s.group == Global, InFile: !s.notInFile, Reloads: Reloads(s.key)}
		if s.flag != "" {
			d.Flag = "--" + s.flag
		}
		if s.shorthand != "" {
			d.Flag = "-" + s.shorthand + ", " + d.Flag
		}
		all = append(all, d)
	}
	for _, key := range listKeys {
		all = append(all, Description{Key: key, Meaning: listMeanings[key], InFile: true, Reloads: true})
	}
	return all
}

// DescriptionOf describes a setting, given its key as [Config.Settings] has it. It is empty if the key
// is unknown, as that of another version may be.
func DescriptionOf(key string) Description {
	list, _, _ := strings.Cut(key, "[")
	for _, d := range Describe() {
		if d.Key == list {
			return d
		}
	}
	return Description{}
}
