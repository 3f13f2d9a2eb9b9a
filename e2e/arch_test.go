package e2e_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layer lists the packages of disc that the packages matching a pattern may import, and
// the reason. The first pattern that matches counts; one that ends in /* matches all
// packages below.
type layer struct {
	pattern string
	may     []string
	why     string
}

// layers is the architecture: the vocabulary is pure, an adapter package knows one technology,
// adapters do not import each other, and agent and cli tie them together.
var layers = []layer{
	{"discovery", nil,
		"it is the vocabulary, and pure"},
	{"discovery/retry", nil,
		"it knows nothing of the calls that it spaces"},
	{"discovery/connect", nil,
		"it reads errors of connections, and knows nothing of what they are to"},
	{"discovery/heartbeat", nil,
		"it knows nothing of the loops that it shows"},
	{"discovery/telemetry", nil,
		"it knows nothing of the metrics that it registers"},
	{"discovery/view/*", []string{"discovery", "discovery/view"},
		"it makes snapshots for the tests of their readers"},
	{"discovery/view", []string{"discovery"},
		"a snapshot is a value: it knows neither etcd nor queries"},
	{"discovery/lookup", []string{"discovery", "discovery/view"},
		"an answer is a pure function of a snapshot and a query"},
	{"discovery/changelog", []string{"discovery", "discovery/view"},
		"it keeps what changed as text, and knows nothing of where the changes come from"},
	{"discovery/devetcd/*", []string{"discovery", "discovery/devetcd"},
		"it serves the tests of all others"},
	{"discovery/devetcd", []string{"discovery", "discovery/devetcd/lazymetrics"},
		"it is an etcd, and knows nothing of what is kept in it"},
	{"discovery/etcd", []string{"discovery", "discovery/connect", "discovery/retry"},
		"it is the client of etcd, and knows nothing of the keys in it"},
	{"discovery/quota", []string{"discovery"},
		"it asks etcd for its size, and knows nothing of what is written"},
	{"discovery/life", []string{"discovery", "discovery/etcd", "discovery/lease", "discovery/retry"},
		"it knows the epoch, and nothing of what lives in it; of etcd it has what a refusal means, and of lease the clock that goes on during suspend"},
	{"discovery/level", []string{"discovery", "discovery/etcd", "discovery/retry"},
		"it knows what agents can read, and nothing of what they write; of etcd it has what a refusal means"},
	{"discovery/reflector", []string{"discovery", "discovery/etcd", "discovery/life", "discovery/telemetry", "discovery/retry", "discovery/heartbeat"},
		"it copies ranges of keys, and knows nothing of what is kept in them"},
	{"discovery/lease", []string{"discovery", "discovery/etcd", "discovery/telemetry", "discovery/retry", "discovery/heartbeat"},
		"a session knows nothing of what is kept under it"},
	{"discovery/lock/*", []string{"discovery", "discovery/lock", "discovery/lease", "discovery/life", "discovery/retry/retrytest", "discovery/devetcd/etcdtest"},
		"it serves the tests of locks and of what is built on them"},
	{"discovery/lock", []string{"discovery", "discovery/etcd", "discovery/lease", "discovery/life", "discovery/quota", "discovery/telemetry", "discovery/retry"},
		"a lock needs no view; other kinds of grants are built on it"},
	{"discovery/claim", append([]string{"discovery/etcd", "discovery/life", "discovery/lock", "discovery/reflector", "discovery/retry", "discovery/heartbeat"}, words...),
		"a claim is a kind of grant: package lock expires it under the session; the view is an interface"},
	{"discovery/resolver", append([]string{"discovery/retry"}, words...),
		"it gets a catalog through an interface, and asks an agent over HTTP"},
	{"discovery/registry", append([]string{"discovery/etcd", "discovery/lease", "discovery/life", "discovery/telemetry", "discovery/retry", "discovery/heartbeat"}, words...),
		"it writes under the session; the view that it compares with is an interface"},
	{"discovery/catalog", append([]string{"discovery/changelog", "discovery/etcd", "discovery/life", "discovery/reflector", "discovery/telemetry", "discovery/retry", "discovery/heartbeat"}, words...),
		"it reads, and writes nothing: it needs no session"},
	{"discovery/kv", []string{"discovery", "discovery/etcd", "discovery/life", "discovery/quota", "discovery/reflector", "discovery/retry", "discovery/heartbeat"},
		"values are bytes: they need neither view nor session"},
	{"discovery/limit", []string{"discovery", "discovery/etcd", "discovery/lease", "discovery/life", "discovery/quota", "discovery/reflector", "discovery/telemetry", "discovery/retry", "discovery/heartbeat"},
		"a limit lives in its ledger alone; of lease it has the clock that goes on during suspend"},
	{"discovery/garbage", []string{"discovery", "discovery/etcd", "discovery/reflector"},
		"it knows the layout, and nothing of who writes the keys; of reflector it has the list, of etcd the batches"},
	{"discovery/entry", append([]string{"discovery/etcd", "discovery/retry"}, words...),
		"an edit is one transaction on the keys of one instance; of etcd it has what a refusal means"},
	{"discovery/retry/*", nil,
		"it serves the tests of all others"},
	{"config/input", []string{"discovery"},
		"it reads a file, and knows nothing of what is in it"},
	{"config/safefile", nil,
		"it judges owners and modes, and knows nothing of what is in the files"},
	{"config", []string{"discovery", "config/input", "agent/access"},
		"settings know no part that they are for; what a token may do has its own words"},
	{"agent/api/*", append([]string{"agent/api"}, words...),
		"it serves the tests of the API's users"},
	{"agent/api", append([]string{"discovery/connect", "discovery/retry"}, words...),
		"wire types are for clients, who have no agent"},
	{"agent/access", []string{"discovery"},
		"who may do what is a pure function of a policy and a request"},
	{"agent/answercache", []string{"discovery/view"},
		"it caches answers of any protocol, whatever is in them"},
	{"agent/httpapi/fastpath", nil,
		"it answers plain requests, whatever is asked; the answers are handed to it"},
	{"agent/httpapi", append([]string{"agent/httpapi/fastpath", "agent/access", "agent/answercache", "agent/api", "discovery/telemetry", "discovery/retry"}, words...),
		"adapters never meet; plain requests it answers by its fast path, from what it caches as DNS does"},
	{"agent/reaper", nil,
		"it knows processes, and nothing of why they are started"},
	{"agent/check", append([]string{"agent/reaper", "agent/api", "config/input", "discovery/telemetry", "discovery/retry"}, words...),
		"adapters never meet; package agent ties them; the CA file of a check is read as those of settings are"},
	{"agent/dns", append([]string{"agent/answercache", "agent/api", "discovery/telemetry", "discovery/retry"}, words...),
		"adapters never meet; what it caches it caches as HTTP does"},
	{"agent/ui", nil,
		"it is files for a browser, which speaks the HTTP API"},
	{"agent/*", append([]string{"agent/api", "discovery/telemetry", "discovery/retry"}, words...),
		"adapters never meet; package agent ties them"},
	{"agent", []string{"config", "config/input", "config/safefile", "discovery", "discovery/*", "agent/*"},
		"it puts the parts together"},
	{"cli/child", []string{"agent/reaper"},
		"a supervised process knows nothing of discovery"},
	{"cli/render", append([]string{"agent/reaper", "config/safefile", "discovery/retry"}, words...),
		"where its data comes from is handed to it"},
	{"cli", []string{"config", "config/input", "config/safefile", "discovery", "discovery/*", "agent/access", "agent/api", "agent/reaper", "cli/child", "cli/render", "agent"},
		"commands speak to etcd or to an agent's API"},
	{"cmd/disc", []string{"cli"},
		"main only starts the CLI"},
	{"e2e/*", []string{"*"}, "tests of the whole may look at everything"},
	{"e2e", []string{"*"}, "tests of the whole may look at everything"},
}

// words are the pure packages. They open no file and no connection.
var words = []string{"discovery", "discovery/view", "discovery/lookup"}

// onlyIn lists imports that only some files of a package may have.
var onlyIn = map[string][]string{
	"cli -> agent": {"agent.go", "dev.go"},
}

// forTests lists the packages that the tests of any package may import in addition.
var forTests = []string{"discovery", "discovery/view", "discovery/view/viewtest", "discovery/retry/retrytest", "discovery/devetcd", "discovery/devetcd/etcdtest", "agent/api/apitest"}

// etcdClient is for the packages that own a part of etcd, and for those that construct them.
const etcdClient = "go.etcd.io/etcd/client/v3"

func TestImports(t *testing.T) {
	module, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	prefix := strings.TrimSpace(string(module)) + "/"
	for _, file := range goFiles(t) {
		dir := path.Dir(file)
		l := layerOf(dir)
		if l == nil {
			t.Errorf("%s: package %s is in no layer; add it to layers", file, dir)
			continue
		}
		for _, imported := range imports(t, file) {
			if imported == etcdClient && strings.HasPrefix(dir, "agent/") {
				t.Errorf("%s imports an etcd client: a protocol of the agent does not talk to etcd itself", file)
			}
			if of, ok := strings.CutPrefix(imported, prefix); ok {
				if err := l.check(file, of); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestTopLevel checks that the top of the tree has only the files and folders that the docs
// describe.
func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	may := []string{
		"cmd", "agent", "discovery", "cli", "config", "e2e", "deploy", "docs", "clients", "go.mod", "go.sum",
		"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE",
		".ci", ".git", ".github", ".gitignore", ".golangci.yml", ".goreleaser.yaml",
	}
	for _, e := range entries {
		if !slices.Contains(may, e.Name()) {
			t.Errorf("%s is at the top of the tree; it belongs in a folder", e.Name())
		}
	}
}

func (l *layer) check(file, of string) error {
	dir, test := path.Dir(file), strings.HasSuffix(file, "_test.go")
	if test && (slices.Contains(forTests, of) || of == dir || matchAny(l.may, of)) {
		return nil
	}
	if test && strings.HasPrefix(dir, "discovery/") && strings.HasPrefix(of, "discovery/") {
		return nil // packages that are built on etcd are tested together
	}
	if files, ok := onlyIn[dir+" -> "+of]; ok && !slices.Contains(files, path.Base(file)) && !test {
		return fmt.Errorf("%s imports %s: only %s may", file, of, strings.Join(files, " and "))
	}
	if !matchAny(l.may, of) {
		return fmt.Errorf("%s imports %s: %s (%s may import %s)", file, of, l.why, dir, strings.Join(l.may, ", "))
	}
	return nil
}

func layerOf(dir string) *layer {
	for n := range layers {
		if match(layers[n].pattern, dir) {
			return &layers[n]
		}
	}
	return nil
}

func matchAny(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, dir) })
}

func match(pattern, dir string) bool {
	if pattern == "*" {
		return true
	}
	if below, ok := strings.CutSuffix(pattern, "/*"); ok {
		return strings.HasPrefix(dir, below+"/")
	}
	return pattern == dir
}

// goFiles returns the paths of all Go files, relative to the top of the tree.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git" || d.Name() == ".ci") {
			return filepath.SkipDir
		}
		if err == nil && strings.HasSuffix(name, ".go") {
			files = append(files, strings.TrimPrefix(filepath.ToSlash(name), "../"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func imports(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	return all
}
