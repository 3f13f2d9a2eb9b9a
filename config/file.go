package config

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"disc/agent/access"
	"disc/discovery"
)

// file is the content of a config file.
type file struct {
	values   map[string]any // of type value, by the setting's key, for viper
	services []discovery.Registration
	tokens   []access.Token
	clients  []access.Client
	reader
}

// listKeys are the keys of the lists of a file that are no settings: a variable cannot hold
// them.
var listKeys = []string{"services", "http.tokens", "http.clients"}

// list returns the field for a list of listKeys.
func (f *file) list(key string) reflect.Value {
	return reflect.ValueOf(map[string]any{
		"services": &f.services, "http.tokens": &f.tokens, "http.clients": &f.clients,
	}[key]).Elem()
}

// parseFile parses a config file. It returns an error if the file is not YAML, and records
// all else that is wrong in the file's problems.
func parseFile(name string, data []byte) (*file, error) {
	f := &file{values: map[string]any{}, reader: reader{name: name, lines: map[string]int{}}}
	var document, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return f, nil
	}
	if err == nil {
		err = decoder.Decode(&second)
	}
	switch {
	case err == nil:
		f.bad(&second, "", "a second document begins; a config file holds only one")
	case !errors.Is(err, io.EOF):
		return nil, f.syntaxError(err)
	}
	f.section(document.Content[0], "", settings())
	return f, nil
}

// syntaxError returns an error of the YAML library as an [*Error].
func (f *file) syntaxError(err error) error {
	at, text := f.at(0), err.Error()
	line := regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`)
	if m := line.FindStringSubmatch(text); m != nil {
		at.line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	return joined([]problem{{at: at, text: "not YAML: " + text}})
}

// section reads a mapping of settings and further sections.
func (f *file) section(n *yaml.Node, path string, table []setting) {
	n, ok := f.resolve(n, path)
	if !ok {
		return
	}
	known := names(table, path)
	for key, value := range f.pairs(n, path) {
		at := join(path, key.Value)
		row := slices.IndexFunc(table, func(s setting) bool { return s.key == at })
		switch {
		case isExtension(key.Value):
		case !slices.Contains(known, key.Value):
			f.unknown(key, path, known)
		case slices.Contains(listKeys, at):
			f.decode(value, at, f.list(at))
		case row < 0:
			f.section(value, at, table)
		default:
			f.setting(value, table[row])
		}
	}
}

// names returns the keys that the section at path may have.
func names(table []setting, path string) []string {
	var all []string
	for _, key := range listKeys {
		if rest, ok := strings.CutPrefix(key, join(path, "")); ok && !strings.Contains(rest, ".") {
			all = append(all, rest)
		}
	}
	for _, s := range table {
		if rest, ok := strings.CutPrefix(s.key, join(path, "")); ok && !s.notInFile {
			name, _, _ := strings.Cut(rest, ".")
			all = append(all, name)
		}
	}
	return all
}

// setting reads the value of a setting. A key without a value counts as absent.
func (f *file) setting(n *yaml.Node, s setting) {
	n, ok := f.resolve(n, s.key)
	if !ok {
		return
	}
	v := value{origin: f.at(f.lines[s.key])}
	switch {
	case n.Kind == yaml.SequenceNode && (s.kind == kindList || s.kind == kindTextOrList):
		f.decode(n, s.key, reflect.ValueOf(&v.texts).Elem())
	case s.kind == kindList:
		f.bad(n, s.key, "%s where a list is expected", describe(n))
		return
	case n.Kind != yaml.ScalarNode:
		f.bad(n, s.key, "%s where text is expected", describe(n))
		return
	case s.kind == kindBool && n.ShortTag() != "!!bool":
		f.bad(n, s.key, "%s where true or false is expected", describe(n))
		return
	default:
		v.texts = []string{n.Value}
	}
	f.values[s.key] = v
}
