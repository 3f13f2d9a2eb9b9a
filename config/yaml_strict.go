package config

import (
	"cmp"
	"encoding"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes limits the nodes of a file, counted after its aliases are expanded.
const maxNodes = 1 << 18

// reader decodes YAML nodes strictly and records every problem with its line.
type reader struct {
	name     string         // of the file
	lines    map[string]int // line of each path that was read
	visited  int            // nodes
	merging  []*yaml.Node   // the mappings and lists that are being merged into one another
	problems []problem
	nulls    []problem // the paths without a value, without a text
}

func (r *reader) bad(n *yaml.Node, path, format string, args ...any) {
	r.problems = append(r.problems, problem{r.at(n.Line), path, fmt.Sprintf(format, args...)})
}

func (r *reader) at(line int) origin { return origin{fromFile, r.name, line} }

// resolve follows aliases. It returns false if the node is null or exceeds [maxNodes].
func (r *reader) resolve(n *yaml.Node, path string) (target *yaml.Node, ok bool) {
	if !r.visit(n, path) {
		return n, false
	}
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.ShortTag() == "!!null" {
		r.nulls = append(r.nulls, problem{at: r.at(max(r.lines[path], 1)), key: path})
		return n, false
	}
	return n, true
}

// visit counts a node. It returns false if the node exceeds [maxNodes].
func (r *reader) visit(n *yaml.Node, path string) bool {
	if r.visited++; r.visited == maxNodes {
		r.bad(n, path, "the file is too large with its aliases expanded")
	}
	return r.visited < maxNodes
}

// pairs yields the keys and values of a mapping and records duplicate keys. Those that a merge key
// ("<<") brings come last.
func (r *reader) pairs(n *yaml.Node, path string) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(*yaml.Node, *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			r.bad(n, path, "%s where keys and values are expected", describe(n))
			return
		}
		first := map[string]int{}
		var merged []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			switch line, twice := first[key.Value]; {
			case key.Kind != yaml.ScalarNode:
				r.bad(key, path, "%s where a key is expected", describe(key))
			case key.ShortTag() == mergeTag:
				merged = append(merged, value)
			case twice:
				r.bad(key, join(path, key.Value), "given twice; the first is in line %d", line)
			default:
				first[key.Value] = key.Line
				r.lines[join(path, key.Value)] = key.Line
				if !yield(key, value) {
					return
				}
			}
		}
		for _, from := range merged {
			at := path
			if !strings.HasSuffix(at, mergeKey) {
				at = join(at, mergeKey)
			}
			for key, value := range r.mergedPairs(from, at) {
				if _, own := first[key.Value]; own || !r.visit(key, path) {
					continue
				}
				first[key.Value] = key.Line
				r.lines[join(path, key.Value)] = key.Line
				if !yield(key, value) {
					return
				}
			}
		}
	}
}

// The key that merges other mappings into its own (https://yaml.org/type/merge.html), and its tag.
const (
	mergeKey = "<<"
	mergeTag = "!!merge"
)

// maxMergeDepth limits the mappings and lists that are merged into one another.
const maxMergeDepth = 32

// mergedPairs yields the keys and values of a mapping, or of a list of mappings, that is merged into
// another. The first of a list to have a key gives its value.
func (r *reader) mergedPairs(n *yaml.Node, path string) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(*yaml.Node, *yaml.Node) bool) {
		from, ok := r.resolve(n, path)
		switch {
		case !ok:
			if r.visited < maxNodes {
				r.bad(n, path, "no value is given where keys and values are expected")
			}
			return
		case slices.Contains(r.merging, from):
			r.bad(n, path, "it merges itself")
			return
		case len(r.merging) == maxMergeDepth:
			r.bad(n, path, "merges are nested more than %d deep", maxMergeDepth)
			return
		}
		r.merging = append(r.merging, from)
		defer func() { r.merging = r.merging[:len(r.merging)-1] }()
		if from.Kind != yaml.SequenceNode {
			r.pairs(from, path)(yield)
			return
		}
		for _, element := range from.Content {
			for key, value := range r.mergedPairs(element, path) {
				if !yield(key, value) {
					return
				}
			}
		}
	}
}

// decode decodes a node into v, whose type consists of structs with yaml tags, maps with
// string keys, slices, pointers and scalars.
func (r *reader) decode(n *yaml.Node, path string, v reflect.Value) {
	n, ok := r.resolve(n, path)
	if !ok {
		return
	}
	if text, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		if n.Kind != yaml.ScalarNode {
			r.bad(n, path, "%s where text is expected", describe(n))
		} else if err := text.UnmarshalText([]byte(n.Value)); err != nil {
			r.bad(n, path, "%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.decode(n, path, v.Elem())
	case reflect.Struct:
		r.fields(n, path, v)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for key, value := range r.pairs(n, path) {
			element, nulls := reflect.New(v.Type().Elem()).Elem(), len(r.nulls)
			r.decode(value, join(path, key.Value), element)
			r.nulls = r.nulls[:nulls] // an element of a map may be empty
			v.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), element)
		}
	case reflect.Slice:
		r.elements(n, path, v)
	default:
		if n.Kind != yaml.ScalarNode || n.Decode(v.Addr().Interface()) != nil {
			form := map[reflect.Kind]string{reflect.Int: "a whole number", reflect.Bool: "true or false"}[v.Kind()]
			r.bad(n, path, "%s where %s is expected", describe(n), cmp.Or(form, "text"))
		}
	}
}

func (r *reader) fields(n *yaml.Node, path string, v reflect.Value) {
	var names []string
	for i := range v.NumField() {
		names = append(names, v.Type().Field(i).Tag.Get("yaml"))
	}
	for key, value := range r.pairs(n, path) {
		switch i := slices.Index(names, key.Value); {
		case isExtension(key.Value):
		case i < 0:
			r.unknown(key, path, names)
		default:
			r.decode(value, join(path, key.Value), v.Field(i))
		}
	}
}

// isExtension reports whether a key is left to the user, for anchors and other programs, as in the files
// of Compose.
func isExtension(key string) bool { return strings.HasPrefix(key, "x-") }

func (r *reader) elements(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		r.bad(n, path, "%s where a list is expected", describe(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, element := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		r.lines[at] = element.Line
		r.decode(element, at, v.Index(i))
	}
}

func (r *reader) unknown(key *yaml.Node, path string, known []string) {
	r.bad(key, join(path, key.Value), "unknown key%s", suggest(key.Value, known))
}

func join(path, key string) string { return strings.TrimPrefix(path+"."+key, ".") }

// describe returns the start of an error about the form of a node.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map is given"
	case yaml.SequenceNode:
		return "a list is given"
	case yaml.AliasNode:
		return "an alias is given"
	}
	return fmt.Sprintf("%.60q is given", n.Value)
}
