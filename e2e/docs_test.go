package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/spf13/pflag"

	"disc/config"
)

// page is a page of the documentation.
type page struct {
	name string // from the top of the tree, such as docs/asking.md
	text string
}

// pages returns the README and all pages of docs, and the pages at the top of the tree.
func pages(t *testing.T) []page {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("docs has %d pages: %v", len(files), err)
	}
	var all []page
	for _, file := range append(files, "../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md", "../e2e/bench/SCALE.md") {
		all = append(all, page{strings.TrimPrefix(filepath.ToSlash(file), "../"), string(read(t, file))})
	}
	return all
}

// block is a fenced block of a page.
type block struct {
	kind string // behind the opening fence
	line int    // of the opening fence, from 1
	text string
}

// blocks returns the fenced blocks of a page, in order.
func (p page) blocks() []block {
	var all []block
	open := false
	n := 0
	for line := range strings.Lines(p.text) {
		n++
		kind, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && !open:
			all = append(all, block{kind: kind, line: n})
			open = true
		case fence:
			open = false
		case open:
			all[len(all)-1].text += line
		}
	}
	return all
}

// prose returns a page without its fenced blocks.
func (p page) prose() string {
	return regexp.MustCompile("(?ms)^```.*?^```\n").ReplaceAllString(p.text, "\n")
}

// textBlocks are the pages that have blocks of kind text, with what these are.
var textBlocks = map[string]string{"e2e/bench/SCALE.md": "a formula"}

// TestDocs follows each page from top to bottom, as a reader would, on a machine of its
// own: the commands are run, the programs too, and the files are read by a parser.
func TestDocs(t *testing.T) {
	t.Parallel()
	for _, p := range pages(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			c := newConsole(t)
			if p.name == "docs/changing.md" {
				copyTree(t, c.dir)
			}
			for _, b := range p.blocks() {
				t.Logf("%s:%d", p.name, b.line)
				switch b.kind {
				case "console":
					for _, s := range steps(b.text) {
						c.run(s)
					}
				case "python", "js", "go":
					c.program(b.kind, b.text)
				case "yaml":
					readConfig(t, b.text)
				case "ini":
					readUnit(t, b.text)
				case "resolv":
					readResolver(t, b.text)
				case "sh":
					if p.name != "docs/releasing.md" {
						t.Errorf("%s:%d: sh is for the commands of a release, which CI runs; write console", p.name, b.line)
					}
				case "text":
					if textBlocks[p.name] == "" {
						t.Errorf("%s:%d: text is for what cannot be tested; say in the list why", p.name, b.line)
					}
				default:
					t.Errorf("%s:%d: no test knows what to do with a block of kind %q", p.name, b.line, b.kind)
				}
			}
			if m := regexp.MustCompile(`(?m)^\n {4}\S.*`).FindString(p.prose()); m != "" {
				t.Errorf("%s: %q is indented code, which no test runs: fence it, and name its kind", p.name, strings.TrimSpace(m))
			}
		})
	}
}

// readConfig loads a block as an agent's config file.
func readConfig(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"ca.pem", "agent.pem", "agent-key.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/etc/disc/", dir+"/")), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("docs", pflag.ContinueOnError)
	config.AddFlags(flags, config.Global, config.Agent)
	if err := flags.Set("config", file); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(flags, config.Host{Hostname: "n1", Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "services:") && len(cfg.Services) == 0 {
		t.Errorf("the config file has no service:\n%s", text)
	}
	if strings.Contains(text, "{Team: core}") && cfg.Services[0].Meta["Team"] != "core" {
		t.Errorf("the meta of the service is %v", cfg.Services[0].Meta)
	}
}

// unitKeys are the directives of systemd that a unit may use.
var unitKeys = map[string][]string{
	"Unit":    {"Description", "After", "Wants"},
	"Service": {"Type", "ExecStart", "ExecReload", "Restart", "WatchdogSec", "StateDirectory", "RuntimeDirectory", "LimitNOFILE"},
	"Install": {"WantedBy"},
}

// readUnit reads a block as a systemd unit, and the command that it starts as disc would.
func readUnit(t *testing.T, text string) {
	t.Helper()
	section, started := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(name, "]")
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if line != "" && (!ok || !slices.Contains(unitKeys[section], key)) {
			t.Errorf("[%s] %s: not a directive that the test knows", section, line)
		}
		if key != "ExecStart" {
			continue
		}
		started = true
		args := strings.Fields(value)
		flags := pflag.NewFlagSet("unit", pflag.ContinueOnError)
		config.AddFlags(flags, config.Global, config.Agent)
		if err := flags.Parse(args[1:]); err != nil || filepath.Base(args[0]) != "disc" || args[1] != "agent" {
			t.Errorf("%s: %v", line, err)
		}
	}
	if !started {
		t.Error("the unit starts nothing")
	}
}

// readResolver reads a block as a resolv.conf that asks the agent first.
func readResolver(t *testing.T, text string) {
	t.Helper()
	conf, err := dns.ClientConfigFromReader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(conf.Servers) < 2 || conf.Servers[0] != "127.0.0.1" || !slices.Contains(conf.Search, "disc") {
		t.Errorf("servers %v, search %v: want the agent, another server, and the domain disc", conf.Servers, conf.Search)
	}
}

// copyTree copies the source tree, for commands that change it.
func copyTree(t *testing.T, dir string) {
	t.Helper()
	tar := exec.Command("bash", "-c", "tar -C .. --exclude=./.git -c . | tar -C "+dir+" -x")
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("copy the tree: %v\n%s", err, out)
	}
}
