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
	name string // path from the top of the tree, such as docs/asking.md
	text string
}

// pages returns all pages: those of docs, those at the top of the tree, and SCALE.md.
func pages(t *testing.T) []page {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("docs has %d pages, want some: %v", len(files), err)
	}
	var all []page
	for _, file := range append(files, "../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md", "../e2e/bench/SCALE.md") {
		all = append(all, page{strings.TrimPrefix(filepath.ToSlash(file), "../"), string(read(t, file))})
	}
	return all
}

// block is a fenced block of a page.
type block struct {
	kind string // the word after the opening fence
	line int    // line of the opening fence, from 1
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

// textBlocks lists the pages that may have blocks of kind text, with the reason.
var textBlocks = map[string]string{"e2e/bench/SCALE.md": "a formula"}

// TestDocs follows each page from top to bottom as a reader would, each page with its own fleet.
// It runs the commands and the programs, and parses the files.
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
						t.Errorf("%s:%d: use console: sh is only for the commands of a release, which CI runs", p.name, b.line)
					}
				case "text":
					if textBlocks[p.name] == "" {
						t.Errorf("%s:%d: text is only for what cannot be tested: add the page and the reason to textBlocks", p.name, b.line)
					}
				default:
					t.Errorf("%s:%d: no test reads blocks of kind %q", p.name, b.line, b.kind)
				}
			}
			if m := regexp.MustCompile(`(?m)^\n {4}\S.*`).FindString(p.prose()); m != "" {
				t.Errorf("%s: no test runs indented code: fence it, and name its kind: %q", p.name, strings.TrimSpace(m))
			}
		})
	}
}

// readConfig loads a block as the config file of an agent.
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
	cfg, err := config.Load(t.Context(), flags, config.Host{Hostname: "n1", Env: func(string) (string, bool) { return "", false }})
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

// unitKeys lists the systemd directives that a unit may use, by section.
var unitKeys = map[string][]string{
	"Unit":    {"Description", "After", "Wants"},
	"Service": {"Type", "ExecStart", "ExecReload", "Restart", "WatchdogSec", "StateDirectory", "RuntimeDirectory", "LimitNOFILE"},
	"Install": {"WantedBy"},
}

// readUnit parses a block as a systemd unit, and the flags of the agent that it starts.
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
			t.Errorf("[%s] %s: unitKeys does not list this directive", section, line)
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
		t.Error("the unit has no ExecStart")
	}
}

// readResolver parses a block as a resolv.conf that asks the agent first.
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

// copyTree copies the source tree, for commands that change files.
func copyTree(t *testing.T, dir string) {
	t.Helper()
	tar := exec.Command("bash", "-c", "tar -C .. --exclude=./.git -c . | tar -C "+dir+" -x")
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("copy the tree: %v\n%s", err, out)
	}
}
