package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"disc/config"

	"github.com/spf13/pflag"
)

// TestReadme runs the README's consoles from top to bottom, on other ports, and holds
// what is printed against what it shows. Numbers and random order do not count.
func TestReadme(t *testing.T) {
	for _, program := range []string{"curl", "python3"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	c := newConsole(t)
	for _, block := range blocks(t, "console") {
		for _, step := range steps(block) {
			c.run(step)
		}
	}
}

// TestReadmeConfig loads the config file that the README shows.
func TestReadmeConfig(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ca.pem", "agent.pem", "agent-key.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, block := range blocks(t, "yaml") {
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(block, "/etc/disc/", dir+"/")), 0o600); err != nil {
			t.Fatal(err)
		}
		flags := pflag.NewFlagSet("readme", pflag.ContinueOnError)
		config.AddFlags(flags, config.Global, config.Agent)
		if err := flags.Set("config", file); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(flags, config.Host{Hostname: "n1", Env: func(string) (string, bool) { return "", false }})
		if err != nil {
			t.Fatal(err)
		}
		if len(cfg.Services) != 1 || cfg.Services[0].Meta["Team"] != "core" {
			t.Errorf("services: %+v", cfg.Services)
		}
	}
}

// TestReadmeNamesTests finds every test and script that the README names.
func TestReadmeNamesTests(t *testing.T) {
	var sources []byte
	for _, pattern := range []string{"*_test.go", "chaos/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			sources = append(sources, read(t, file)...)
		}
	}
	text := string(read(t, "../README.md"))
	for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(sources), "func "+m[1]+"(t *testing.T)") {
			t.Errorf("there is no %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile("script `(\\w+)`").FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat("testdata/script/" + m[1] + ".txtar"); err != nil {
			t.Error(err)
		}
	}
}

// blocks returns the README's fenced blocks of a kind.
func blocks(t *testing.T, kind string) []string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile("(?ms)^```"+kind+"\n(.*?)^```").FindAllStringSubmatch(string(b), -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 {
		t.Fatalf("the README has no %s block", kind)
	}
	return all
}

// step is one command of a console, with what it prints.
type step struct{ command, output string }

func steps(block string) []step {
	var all []step
	for _, part := range strings.Split("\n"+block, "\n$ ")[1:] {
		command, output, _ := strings.Cut(part, "\n")
		all = append(all, step{command, output})
	}
	return all
}

// console runs commands as somebody who follows the README would.
type console struct {
	t           *testing.T
	dir         string
	service     string // port, in place of the README's 8081
	agent, etcd string // addresses, in place of the README's
	pids        []string
	env         []string
}

func newConsole(t *testing.T) *console {
	c := &console{t: t, dir: t.TempDir(), service: freePort(t), agent: "127.0.0.1:" + freePort(t), etcd: "127.0.0.1:" + freePort(t)}
	c.env = append(os.Environ(),
		"HOME="+c.dir, "DISC_HTTP="+c.agent, "DISC_ETCD_LISTEN="+c.etcd, "DISC_DNS=127.0.0.1:0",
		"DISC_AGENT=http://"+c.agent, "DISC_ENDPOINTS="+c.etcd, "DISC_NODE=n1")
	return c
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := pickPort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// run runs a step: what does not end by itself goes to the background, and what only
// looks is repeated until it shows what the README shows.
func (c *console) run(s step) {
	c.t.Helper()
	command := strings.ReplaceAll(s.command, "go run ./cmd/disc", "disc")
	command = strings.ReplaceAll(command, "127.0.0.1:3472", c.agent)
	command = strings.ReplaceAll(command, "8081", c.service)
	command = strings.Replace(command, "curl ", "curl -sS ", 1)
	c.t.Logf("$ %s", command)
	switch {
	case command == "go test ./...":
	case strings.HasPrefix(command, "disc dev"), strings.HasPrefix(command, "disc run"):
		c.background(command, s.output)
	case strings.HasPrefix(command, "kill "):
		c.kill()
	default:
		c.expect(command, s.output)
	}
}

// expect runs a command until its output is as the README shows it; one that changes
// something is run once.
func (c *console) expect(command, want string) {
	c.t.Helper()
	looks := regexp.MustCompile(`^(disc (list|lookup|get|status|wait)|curl -sS [0-9])`).MatchString(command)
	var out string
	matches := func() bool {
		b, err := c.command(context.Background(), command).CombinedOutput()
		out = string(b)
		if err != nil && !looks {
			c.t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return c.shape(out) == c.shape(want) || want == ""
	}
	if looks && !await(matches) || !looks && !matches() {
		c.t.Fatalf("%s printed\n%s\nand the README shows\n%s", command, out, want)
	}
}

func (c *console) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir, cmd.Env = c.dir, c.env
	return cmd
}

var (
	number = regexp.MustCompile(`\d+(\.\d+)?`)
	random = regexp.MustCompile(`\b[0-9a-f]+-[a-z2-7]{26}\b`) // an id of a lock or a claim
)

// shape is a text without its numbers, random ids and blanks, line by line, in order.
func (c *console) shape(s string) string {
	s = strings.ReplaceAll(s, "go run ./cmd/disc", "disc") // which names itself as it was called
	s = strings.NewReplacer(c.agent, "ADDRESS", c.etcd, "ADDRESS", "127.0.0.1:3472", "ADDRESS", "127.0.0.1:2379", "ADDRESS",
		" --endpoints "+c.etcd, "", " --agent http://"+c.agent, "").Replace(s)
	s = number.ReplaceAllString(random.ReplaceAllString(s, "ID"), "N")
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// background starts a command that goes on until the test ends, and waits for what the
// README shows.
func (c *console) background(command, want string) {
	c.t.Helper()
	cmd := exec.Command("bash", "-c", "exec "+command)
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	if want == "" {
		return
	}
	if !await(func() bool { return c.shape(out.String()) == c.shape(want) }) {
		c.t.Fatalf("%s printed\n%s\nand the README shows\n%s", command, out.String(), want)
	}
	for _, m := range regexp.MustCompile(`kill (\d+)`).FindAllStringSubmatch(out.String(), -1) {
		c.pids = append(c.pids, m[1])
	}
}

// kill kills the first of the demo's services, as the README does with its own.
func (c *console) kill() {
	c.t.Helper()
	pid, err := strconv.Atoi(c.pids[0])
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGTERM)
	}
	if err != nil {
		c.t.Fatal(fmt.Errorf("kill %s: %w", c.pids[0], err))
	}
}
