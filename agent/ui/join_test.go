package ui

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func texts(files map[string]string) map[string][]byte {
	content := map[string][]byte{}
	for name, text := range files {
		content[name] = []byte(text)
	}
	return content
}

// Modules that are joined run in the order of their imports; one that import() gets stays a file.
func TestJoin(t *testing.T) {
	content := texts(map[string]string{
		"main.js":     "import { b as c } from './b.js'\nimport lib from './vendor/lib.js'\nc(lib)\nimport('./later.js')\n",
		"b.js":        "export { one } from './vendor/lib.js'\nexport async function* b() {}\nexport const d = 1\n/** @typedef {import('./types.js').T} T */\n",
		"vendor/x.js": `var $=1,y=2;function z(){}export{$ as X,y};`,
		"vendor/lib.js": `import{X as a,y}from"./x.js";export{X as one}from"./x.js";` +
			`export default function(s){return a+y}`,
		"later.js": "import { d } from './b.js'\nimport { more } from './more.js'\nexport const e = d\n",
		"more.js":  "export const more = 1\n",
		"a.css":    "import {} from './b.js'",
	})
	join(content, "main.js")
	if left := slices.Sorted(maps.Keys(content)); !slices.Equal(left, []string{"a.css", "later.js", "main.js", "more.js"}) {
		t.Errorf("the files are %q", left)
	}
	want := `export const $modules = {}
// vendor/x.js
$modules['vendor/x.js'] = (() => {
var $=1,y=2;function z(){};
return { X: $, y: y }
})()
// vendor/lib.js
$modules['vendor/lib.js'] = (() => {
const { X: a, y: y } = $modules['vendor/x.js'];;const $default = function(s){return a+y}
return { one: $modules['vendor/x.js'].X, default: $default }
})()
// b.js
$modules['b.js'] = (() => {
async function* b() {}
const d = 1
/** @typedef {import('./types.js').T} T */
return { one: $modules['vendor/lib.js'].one, b, d }
})()
// main.js
$modules['main.js'] = (() => {
const { b: c } = $modules['b.js']
const { default: lib } = $modules['vendor/lib.js']
c(lib)
import('./later.js')
return {  }
})()
`
	if got := string(content["main.js"]); got != want {
		t.Errorf("the joined module is\n%s\nwant\n%s", got, want)
	}
	want = "import { $modules } from './main.js'\nconst { d: d } = $modules['b.js']\nimport { more } from './more.js'\nexport const e = d\n"
	if got := string(content["later.js"]); got != want {
		t.Errorf("the module of import() is\n%s\nwant\n%s", got, want)
	}
}

func TestJoinRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		says  string
	}{
		"a binding that changes":  {map[string]string{"main.js": "export let n = 1\n"}, "export let n = 1"},
		"a namespace":             {map[string]string{"main.js": "import * as all from './b.js'\n"}, "import * as all"},
		"a bare name":             {map[string]string{"main.js": "import { h } from 'preact'\n"}, "import { h } from 'preact'"},
		"a module for its effect": {map[string]string{"main.js": "import './b.js'\n"}, "import './b.js'"},
		"no such file":            {map[string]string{"main.js": "import { b } from './b.js'\n"}, "main.js imports b.js, which is no file of the page"},
		"a circle": {map[string]string{"main.js": "import { b } from './b.js'\n", "b.js": "import { c } from './c.js'\n", "c.js": "import { b } from './b.js'\n"},
			"import each other: main.js, b.js, c.js, b.js"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if says, _ := recover().(string); !strings.Contains(says, c.says) {
					t.Errorf("it says %q, want %q", says, c.says)
				}
			}()
			join(texts(c.files), "main.js")
		})
	}
}
