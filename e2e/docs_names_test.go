package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestDocsNames checks that everything that the pages name exists: tests, scripts, files,
// packages, other pages and their sections, commands with their flags, routes and settings.
func TestDocsNames(t *testing.T) {
	t.Parallel()
	known := collect(t)
	for _, p := range pages(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			known.checkLinks(t, p)
			for _, m := range regexp.MustCompile("script `(\\w+)`").FindAllStringSubmatch(p.text, -1) {
				if _, err := os.Stat("testdata/script/" + m[1] + ".txtar"); err != nil {
					t.Error(err)
				}
			}
			for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(p.prose(), -1) {
				known.checkSpan(t, p.name, m[1])
			}
			for _, b := range p.blocks() {
				if b.kind == "console" {
					for _, s := range steps(b.text) {
						known.checkGoTest(t, s.command)
					}
				}
			}
		})
	}
}

// names are the names that a page can refer to.
type names struct {
	tests    []byte              // the source code of the tests
	settings []byte              // as 'disc config view' prints them
	routes   map[string][]string // the methods of each path
	slashes  map[string]bool     // by path: its last parameter may have slashes
	anchors  map[string][]string // by page: the sections
	outputs  *outputs
}

// outputs are the outputs of commands of disc, each of which runs once: the pages name the same ones many
// times, and each is a process.
type outputs struct{ of sync.Map }

// get returns what disc prints with arguments.
func (o *outputs) get(args ...string) ([]byte, error) {
	run, _ := o.of.LoadOrStore(strings.Join(args, " "), sync.OnceValues(exec.Command("disc", args...).CombinedOutput))
	return run.(func() ([]byte, error))()
}

var (
	testSpan    = regexp.MustCompile(`^Test\w+$`)
	fileSpan    = regexp.MustCompile(`^(\.ci|agent|cli|cmd|config|deploy|discovery|docs|e2e)/[\w./-]*$`)
	routeSpan   = regexp.MustCompile(`^(?:(?:GET|PUT|POST|PATCH|DELETE) )?(/(?:v1|v3|healthz|readyz|metrics|debug|resolve|dns-query|openapi)[^?\s]*)(?:\?.*)?$`)
	settingSpan = regexp.MustCompile(`^(?:etcd|session|catalog|kv|http|dns|grpc|log|cli)\.[a-z_.]+$`)
	commandSpan = regexp.MustCompile(`^disc ([a-z].*)$`)
	untested    = regexp.MustCompile(`^(curl|dig|etcdctl|getent|node|python3) \S`)
	goTest      = regexp.MustCompile(`^go test (.*)$`)
)

func (n names) checkSpan(t *testing.T, page, span string) {
	t.Helper()
	n.checkGoTest(t, span)
	switch {
	case untested.MatchString(span):
		if page != "docs/asking.md" { // the script ask runs its table
			t.Errorf("%s: put the command into a console block, so that TestDocs runs it", span)
		}
	case testSpan.MatchString(span):
		if !bytes.Contains(n.tests, []byte("func "+span+"(t *testing.T)")) {
			t.Errorf("there is no test %s", span)
		}
	case fileSpan.MatchString(span):
		if _, err := os.Stat("../" + span); err != nil {
			t.Error(err)
		}
	case settingSpan.MatchString(span):
		if !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(span)+`[ .]`).Match(n.settings) && !isList(t, span) {
			t.Errorf("there is no setting %s", span)
		}
	case routeSpan.MatchString(span):
		n.checkRoute(t, span)
	case commandSpan.MatchString(span):
		n.checkCommand(t, span)
	}
}

// collect reads the names that exist.
func collect(t *testing.T) names {
	t.Helper()
	n := names{routes: map[string][]string{}, slashes: map[string]bool{}, anchors: map[string][]string{}, outputs: new(outputs)}
	for _, pattern := range []string{"*_test.go", "attack/*_test.go", "chaos/*_test.go", "../agent/*_test.go", "../discovery/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			n.tests = append(n.tests, read(t, file)...)
		}
	}
	v, err := validator()
	if err != nil {
		t.Fatal(err)
	}
	for _, operation := range v.Operations() {
		method, path, _ := strings.Cut(operation, " ")
		n.routes[path] = append(n.routes[path], method)
		n.slashes[path] = v.TakesSlashes(path)
	}
	for _, p := range pages(t) {
		n.anchors[p.name] = p.anchors()
	}
	none := filepath.Join(t.TempDir(), "none.yaml")
	if err := os.WriteFile(none, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n.settings, err = exec.Command("disc", "config", "view", "--config", none).Output(); err != nil {
		t.Fatal(err)
	}
	return n
}

// isList reports whether a config file may have a list at a key, which 'disc config view' shows
// by its elements.
func isList(t *testing.T, key string) bool {
	t.Helper()
	section, name, _ := strings.Cut(key, ".")
	file := filepath.Join(t.TempDir(), "list.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%s: {%s: []}\n", section, name), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.Command("disc", "config", "view", "--config", file).Run() == nil
}

// anchors returns the anchors of a page's sections as GitHub generates them.
func (p page) anchors() []string {
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(p.prose(), -1) {
		lower := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
		all = append(all, regexp.MustCompile(`[^\p{L}\p{N}_-]`).ReplaceAllString(lower, ""))
	}
	return all
}

// checkLinks checks that the files and sections exist that a page's links and pictures point to.
func (n names) checkLinks(t *testing.T, p page) {
	t.Helper()
	for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"`).FindAllStringSubmatch(p.prose(), -1) {
		link := m[1] + m[2]
		if strings.Contains(link, "://") {
			continue
		}
		file, anchor, _ := strings.Cut(link, "#")
		target := p.name
		if file != "" {
			target = path.Join(path.Dir(p.name), file)
		}
		if _, err := os.Stat(filepath.Join("..", target)); err != nil {
			t.Errorf("link to %s: %v", link, err)
			continue
		}
		if anchor != "" && !slices.Contains(n.anchors[target], anchor) {
			t.Errorf("link to %s: %s has no such section, but %s", link, target, strings.Join(n.anchors[target], ", "))
		}
	}
}

// checkGoTest checks that the packages and tests exist that a 'go test' command names.
func (n names) checkGoTest(t *testing.T, command string) {
	t.Helper()
	m := goTest.FindStringSubmatch(command)
	if m == nil {
		return
	}
	args := strings.Fields(m[1])
	for i, arg := range args {
		if strings.HasPrefix(arg, "./") {
			if _, err := os.Stat(filepath.Join("..", strings.TrimSuffix(arg, "..."))); err != nil {
				t.Errorf("%s: %v", command, err)
			}
		}
		if arg != "-run" || i+1 == len(args) {
			continue
		}
		name, script, _ := strings.Cut(strings.Trim(args[i+1], "'^$"), "/")
		if !bytes.Contains(n.tests, []byte("func "+name)) {
			t.Errorf("%s: there is no test %s", command, name)
		}
		if name == "TestScripts" && script != "" {
			if _, err := os.Stat("testdata/script/" + strings.Trim(script, "$") + ".txtar"); err != nil {
				t.Errorf("%s: %v", command, err)
			}
		}
	}
}

// checkRoute checks that the API's OpenAPI document has a route, with its method if there is
// one.
func (n names) checkRoute(t *testing.T, span string) {
	t.Helper()
	method, _, ok := strings.Cut(span, " ")
	if !ok {
		method = ""
	}
	route := routeSpan.FindStringSubmatch(span)[1]
	for path, methods := range n.routes {
		pattern := regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), `[^/]+`)
		if n.slashes[path] {
			pattern += ".*"
		}
		if regexp.MustCompile("^"+pattern+"$").MatchString(route) && (method == "" || slices.Contains(methods, method)) {
			return
		}
	}
	t.Errorf("the API has no route %s", span)
}

// checkCommand checks that disc has a command, and that its help or that of the global flags has
// the flags.
func (n names) checkCommand(t *testing.T, span string) {
	t.Helper()
	args, _, _ := strings.Cut(regexp.MustCompile(`'[^']*'`).ReplaceAllString(span, ""), " -- ")
	words := strings.Fields(args)[1:]
	command := words[:1]
	if len(words) > 1 && slices.Contains([]string{"kv", "limit", "config", "completion", "suspects", "node"}, words[0]) {
		command = words[:2]
	}
	help, err := n.outputs.get(append(slices.Clone(command), "--help")...)
	if err != nil || !regexp.MustCompile(`(?m)^  disc `+strings.Join(command, " ")+`\b`).Match(help) {
		t.Errorf("%s: there is no such command: %v", span, err)
		return
	}
	global, err := n.outputs.get("help", "flags")
	if err != nil {
		t.Errorf("disc help flags: %v", err)
	}
	help = slices.Concat(help, global)
	for _, flag := range regexp.MustCompile(`(?:^|\s)(-\w|--[a-z-]+)\b`).FindAllStringSubmatch(args, -1) {
		if !regexp.MustCompile(`(?m)^ +(-\w, )?` + flag[1] + `\b`).Match(help) {
			t.Errorf("%s: the command has no flag %s", span, flag[1])
		}
	}
}
