package ui

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// A browser has six requests at once to a host over HTTP/1.1, so that a file for each module would
// take a round trip for each six of them. Those of the first view are therefore joined into one when
// the page is opened first: each becomes a function, which runs once and returns what it exports.
//
// Of the forms of import and export it knows those that the modules have, and refuses others. A
// module that import() gets later stays a file, and takes what is in the joined one from there.

// registry is the constant of the joined module that has all of them by name.
const registry = "$modules"

// forms are the forms of import and export. Modules of npm have them in a single line, after a statement.
var forms = sync.OnceValue(func() (f struct {
	importForm, exportFromForm, exportListForm, exportForm, defaultForm, otherForm, namesInBrackets *regexp.Regexp
}) {
	f.importForm = regexp.MustCompile(`(?m)(^|[;}])import\s*(\{[^}]*\}|[\w$]+)\s*from\s*['"](\.[^'"]+)['"]`)
	f.exportFromForm = regexp.MustCompile(`(?m)(^|[;}])export\s*(\{[^}]*\})\s*from\s*['"](\.[^'"]+)['"]`)
	f.exportListForm = regexp.MustCompile(`(?m)(^|[;}])export\s*(\{[^}]*\})`)
	f.exportForm = regexp.MustCompile(`(?m)^export ((?:async )?function\*?|class|const) (\w+)`)
	f.defaultForm = regexp.MustCompile(`(?m)(^|[;}])export default `)
	f.otherForm = regexp.MustCompile(`(?m)(?:^|[;}])(?:import\b\s*[^\s(.]|export\b).{0,40}`)
	f.namesInBrackets = regexp.MustCompile(`([\w$]+)(?:\s+as\s+([\w$]+))?`)
	return f
})

// join joins the module start and all that it imports into one, in place of them. It panics for a
// module that it cannot join: that is a fault of the program.
func join(content map[string][]byte, start string) {
	j := &joiner{content: content, done: map[string]bool{}}
	fmt.Fprintf(&j.out, "export const %s = {}\n", registry)
	j.add(start, nil)
	for name := range j.done {
		delete(content, name)
	}
	for name, text := range content {
		if path.Ext(name) == ".js" {
			content[name] = j.later(name, text, start)
		}
	}
	content[start] = j.out.Bytes()
}

// joiner joins modules.
type joiner struct {
	content map[string][]byte
	done    map[string]bool
	out     bytes.Buffer
}

// add adds a module after those that it imports. importers are those that wait for it.
func (j *joiner) add(name string, importers []string) {
	if slices.Contains(importers, name) {
		panic(fmt.Sprintf("modules of the page import each other: %s", strings.Join(append(importers, name), ", ")))
	}
	text, ok := j.content[name]
	if !ok {
		panic(fmt.Sprintf("%s imports %s, which is no file of the page", importers[len(importers)-1], name))
	}
	if j.done[name] {
		return
	}
	for _, form := range []*regexp.Regexp{forms().importForm, forms().exportFromForm} {
		for _, m := range form.FindAllSubmatch(text, -1) {
			j.add(beside(name, m[3]), append(slices.Clone(importers), name))
		}
	}
	j.done[name] = true
	fmt.Fprintf(&j.out, "// %s\n%s['%s'] = (() => {\n%s})()\n", name, registry, name, asFunction(name, text))
}

// beside returns the name of a module that one imports by a relative path.
func beside(name string, imported []byte) string { return path.Join(path.Dir(name), string(imported)) }

// asFunction returns the body of a function that does what a module does, and returns its exports.
func asFunction(name string, text []byte) []byte {
	var exports []string
	text = replace(forms().exportFromForm, text, func(m [][]byte) string {
		for _, n := range forms().namesInBrackets.FindAllSubmatch(m[2], -1) {
			exports = append(exports, fmt.Sprintf("%s: %s['%s'].%s", last(n), registry, beside(name, m[3]), n[1]))
		}
		return string(m[1])
	})
	text = replace(forms().importForm, text, func(m [][]byte) string {
		return string(m[1]) + taken(m[2], beside(name, m[3]))
	})
	text = replace(forms().exportListForm, text, func(m [][]byte) string {
		for _, n := range forms().namesInBrackets.FindAllSubmatch(m[2], -1) {
			exports = append(exports, fmt.Sprintf("%s: %s", last(n), n[1]))
		}
		return string(m[1])
	})
	text = replace(forms().exportForm, text, func(m [][]byte) string {
		exports = append(exports, string(m[2]))
		return string(m[1]) + " " + string(m[2])
	})
	text = replace(forms().defaultForm, text, func(m [][]byte) string {
		exports = append(exports, "default: $default")
		return string(m[1]) + "const $default = "
	})
	if other := forms().otherForm.Find(text); other != nil {
		panic(fmt.Sprintf("%s has a form of import or export that the page does not take: %q", name, other))
	}
	return fmt.Appendf(bytes.TrimSpace(text), "\nreturn { %s }\n", strings.Join(exports, ", "))
}

// later returns a module that is not joined, as import() gets it.
func (j *joiner) later(name string, text []byte, start string) []byte {
	var used bool
	text = replace(forms().importForm, text, func(m [][]byte) string {
		imported := beside(name, m[3])
		if !j.done[imported] {
			return string(m[0])
		}
		used = true
		return string(m[1]) + taken(m[2], imported)
	})
	if used {
		up := strings.Repeat("../", strings.Count(name, "/"))
		text = append(fmt.Appendf(nil, "import { %s } from './%s%s'\n", registry, up, start), text...)
	}
	return text
}

// taken returns the statement that takes what an import names from a joined module.
func taken(clause []byte, from string) string {
	if clause[0] != '{' {
		return fmt.Sprintf("const { default: %s } = %s['%s']", clause, registry, from)
	}
	var all []string
	for _, n := range forms().namesInBrackets.FindAllSubmatch(clause, -1) {
		all = append(all, fmt.Sprintf("%s: %s", n[1], last(n)))
	}
	return fmt.Sprintf("const { %s } = %s['%s']", strings.Join(all, ", "), registry, from)
}

// last returns the name that "a" or "a as b" gives.
func last(n [][]byte) []byte {
	if len(n[2]) > 0 {
		return n[2]
	}
	return n[1]
}

func replace(form *regexp.Regexp, text []byte, f func(m [][]byte) string) []byte {
	return form.ReplaceAllFunc(text, func(b []byte) []byte { return []byte(f(form.FindSubmatch(b))) })
}
