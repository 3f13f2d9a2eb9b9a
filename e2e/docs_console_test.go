package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"disc/agent/reaper"
)

// step is one command of a console block, with its output.
type step struct{ command, output string }

// steps splits a console block at the lines that start with "$ ".
func steps(block string) []step {
	var all []step
	for _, part := range strings.Split("\n"+block, "\n$ ")[1:] {
		command, output, _ := strings.Cut(strings.ReplaceAll(part, "\\\n", " "), "\n")
		all = append(all, step{command, output})
	}
	return all
}

// console runs the commands of a page as a reader would, on other ports.
type console struct {
	t       *testing.T
	dir     string
	service string // port of a service, instead of 8081
	dns     string // port of the agent's DNS, instead of 3453
	agent   string // address of its API, instead of 127.0.0.1:3472
	etcd    string // address of etcd, instead of 127.0.0.1:2379
	pids    []string
	env     []string
}

func newConsole(t *testing.T) *console {
	c := &console{
		t: t, dir: t.TempDir(), service: freePort(t), dns: freePort(t),
		agent: "127.0.0.1:" + freePort(t), etcd: "127.0.0.1:" + freePort(t),
	}
	goEnv, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	caches := strings.Fields(string(goEnv))
	c.env = append(os.Environ(),
		"HOME="+c.dir, "DISC_HTTP="+c.agent, "DISC_ETCD_LISTEN="+c.etcd, "DISC_DNS=127.0.0.1:"+c.dns,
		"DISC_AGENT=http://"+c.agent, "DISC_ENDPOINTS="+c.etcd, "DISC_NODE=n1",
		"ETCDCTL_ENDPOINTS="+c.etcd, "GOCACHE="+caches[0], "GOMODCACHE="+caches[1])
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

// notRun lists the prefixes of commands that TestDocs does not run, with the reason.
// TestDocsNames still checks the names in 'go test' commands.
var notRun = map[string]string{
	"go test ":           "these commands run the tests",
	"go vet ./...":       "CI runs it",
	"go install ./cmd/":  "the pages' commands run the program that is tested",
	"go run ./e2e/bench": "it takes an hour; TestRows runs each row once",
	"LONG_TESTS=1 go ":   "CI runs it",
	"bash .ci/":          "they run these tests",
}

// programsNeeded maps the programs that a page's commands may run to their Debian packages.
var programsNeeded = map[string]string{
	"curl": "curl", "dig": "dnsutils", "etcdctl": "etcd-client", "python3": "python3", "node": "nodejs",
}

// run runs a step. A command that does not end by itself runs in the background, and a
// read-only command is repeated until it prints what the page shows.
func (c *console) run(s step) {
	c.t.Helper()
	for begin := range notRun {
		if strings.HasPrefix(s.command, begin) {
			return
		}
	}
	command := strings.ReplaceAll(s.command, "go run ./cmd/disc", "disc")
	command = strings.NewReplacer("127.0.0.1:3472", c.agent, "127.0.0.1:2379", c.etcd, "3453", c.dns, "8081", c.service).Replace(command)
	if s.output == "" {
		command = strings.Replace(command, "curl ", "curl -sS --fail-with-body ", 1)
	} else {
		command = strings.Replace(command, "curl ", "curl -sS ", 1)
	}
	requireProgram(c.t, strings.Fields(command)[0])
	c.t.Logf("$ %s", command)
	switch {
	case regexp.MustCompile(`^disc (dev|run|agent|render -w)\b`).MatchString(command):
		c.background(command, s.output)
	case strings.HasPrefix(command, "kill "):
		c.kill()
	default:
		c.expect(command, s.output)
	}
}

// requireProgram skips the test when a program of [programsNeeded] is not installed.
func requireProgram(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil && programsNeeded[program] != "" {
		t.Skipf("Debian package %s is not installed", programsNeeded[program])
	}
}

// readOnlyCommand matches the commands that change nothing.
var readOnlyCommand = regexp.MustCompile(`^(disc (list|lookup|get|status|wait|history|why|kv (get|list|history)|limit (get|list))\b|curl -sS (--fail-with-body )?"?[0-9]|dig |etcdctl get )`)

// expect runs a command and compares its output with the page. It repeats a read-only command
// until they match.
func (c *console) expect(command, want string) {
	c.t.Helper()
	again := readOnlyCommand.MatchString(command)
	var out string
	matches := func() bool {
		b, err := c.command(context.Background(), command).CombinedOutput()
		out = string(b)
		if err != nil && !again {
			c.t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return c.shape(out) == c.shape(want) || want == "" && err == nil
	}
	if again && !await(matches) || !again && !matches() {
		c.t.Fatalf("%s printed\n%s\nbut the page shows\n%s", command, out, want)
	}
}

func (c *console) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir, cmd.Env = c.dir, c.env
	return cmd
}

var (
	number = regexp.MustCompile(`\d+(\.\d+)?`)
	random = regexp.MustCompile(`\b[0-9a-f]+-[a-z2-7]{6}([a-z2-7]{20})?\b`) // the id of a grant, or its short form
)

// shape returns a text with its numbers, random ids, addresses and white space made equal.
func (c *console) shape(s string) string {
	s = strings.ReplaceAll(s, "go run ./cmd/disc", "disc") // an output names the program as it was started
	s = strings.NewReplacer(" --endpoints "+c.etcd, "", " --agent http://"+c.agent, "").Replace(s)
	// Another address may begin with one of these: 127.0.0.1:34725.
	s = regexp.MustCompile(`(`+c.agent+`|`+c.etcd+`|127\.0\.0\.1:3472|127\.0\.0\.1:2379)\b`).ReplaceAllString(s, "ADDRESS")
	s = number.ReplaceAllString(random.ReplaceAllString(s, "ID"), "N")
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// background starts a command that runs until the test ends, and waits until it prints what the
// page shows.
func (c *console) background(command, want string) {
	c.t.Helper()
	cmd := exec.Command("bash", "-c", "exec "+command)
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	reaper.DieWithParent(cmd.SysProcAttr)
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
	if want == "" && !strings.HasPrefix(command, "disc dev") {
		return
	}
	shows := func() bool {
		if want == "" {
			return strings.Contains(out.String(), "disc is running")
		}
		return c.shape(out.String()) == c.shape(want)
	}
	if !await(shows) {
		c.t.Fatalf("%s printed\n%s\nbut the page shows\n%s", command, out.String(), want)
	}
	for _, m := range regexp.MustCompile(`kill (\d+)`).FindAllStringSubmatch(out.String(), -1) {
		c.pids = append(c.pids, m[1])
	}
}

// kill ends the first of the demo's services. The page's command has another process id.
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
