package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"disc/agent/api/apitest"
	"disc/agent/httpapi"
)

// etcd [start|stop|wipe]: an etcd at a port that stays the same; with its data, or
// without.
func etcdCommand(ts *testscript.TestScript, _ bool, args []string) {
	s := stageOf(ts)
	verb := "start"
	if len(args) > 0 {
		verb = args[0]
	}
	switch verb {
	case "start":
		ts.Check(s.startEtcd())
		ts.Setenv("DISC_ENDPOINTS", s.endpoint)
	case "stop":
		ts.Check(s.etcd.Close())
	case "wipe":
		ts.Check(s.etcd.Close())
		ts.Check(exec.Command("rm", "-rf", s.env.WorkDir+"/.etcd").Run())
		ts.Check(s.startEtcd())
	default:
		ts.Fatalf("usage: etcd [start|stop|wipe]")
	}
}

// start NAME PROGRAM [ARG...]: a program in the background.
func startCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: start NAME PROGRAM [ARG...]")
	}
	p := stageOf(ts).start(ts, args[0], args[1], args[2:]...)
	ts.Setenv(args[0]+"_pid", strconv.Itoa(p.command.Process.Pid))
}

var listening = regexp.MustCompile(`"msg":"agent is running","http":"([^"]+)","dns":"([^"]+)"`)

// agent NAME [ARG...]: an agent with a data directory and a port of its own. Its URL
// is $NAME, and that of the first is what the CLI asks.
func agentCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: agent NAME [ARG...]")
	}
	name := args[0]
	p := stageOf(ts).start(ts, name, "disc", append([]string{"agent", "--http", "127.0.0.1:0", "--data-dir", ts.MkAbs(name + ".data")}, args[1:]...)...)
	var at []string
	up := await(func() bool {
		at = listening.FindStringSubmatch(p.output.String())
		select {
		case <-p.ended:
			return true
		default:
			return at != nil
		}
	})
	if !up || at == nil {
		ts.Fatalf("agent %s does not run:\n%s", name, p.output.String())
	}
	url := "http://" + at[1]
	ts.Setenv(name, url)
	_, dnsPort, _ := net.SplitHostPort(at[2])
	ts.Setenv(name+"_dns", dnsPort) // on 127.0.0.1
	if strings.HasSuffix(ts.Getenv("DISC_AGENT"), ":1") || ts.Getenv("first_agent") == name {
		ts.Setenv("DISC_AGENT", url)
		ts.Setenv("first_agent", name)
	}
}

func (s *stage) process(ts *testscript.TestScript, name string) *process {
	p, ok := s.processes[name]
	if !ok {
		ts.Fatalf("no process is called %s", name)
	}
	return p
}

var signals = map[string]syscall.Signal{
	"-TERM": syscall.SIGTERM, "-INT": syscall.SIGINT, "-KILL": syscall.SIGKILL, "-HUP": syscall.SIGHUP,
	"-STOP": syscall.SIGSTOP, "-CONT": syscall.SIGCONT, "-USR1": syscall.SIGUSR1,
}

// signal [-SIGNAL] NAME|PID
func signalCommand(ts *testscript.TestScript, _ bool, args []string) {
	s := syscall.SIGTERM
	if len(args) == 2 {
		var ok bool
		if s, ok = signals[args[0]]; !ok {
			ts.Fatalf("signal %s is not known", args[0])
		}
		args = args[1:]
	}
	if pid, err := strconv.Atoi(args[0]); err == nil {
		ts.Check(syscall.Kill(pid, s))
		return
	}
	stageOf(ts).process(ts, args[0]).signal(s)
}

// ended NAME [CODE]: waits until a process has ended, with an exit code as a shell
// tells it.
func endedCommand(ts *testscript.TestScript, neg bool, args []string) {
	p := stageOf(ts).process(ts, args[0])
	if neg {
		select {
		case <-p.ended:
			ts.Fatalf("%s has ended with %d:\n%s", args[0], p.code, p.output.String())
		default:
			return
		}
	}
	if !await(func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	}) {
		ts.Fatalf("%s has not ended:\n%s", args[0], p.output.String())
	}
	if len(args) == 2 && args[1] != strconv.Itoa(p.code) {
		ts.Fatalf("%s ended with %d, want %s:\n%s", args[0], p.code, args[1], p.output.String())
	}
}

// output NAME PATTERN: waits until a process has written what matches; with !, it must
// not have.
func outputCommand(ts *testscript.TestScript, neg bool, args []string) {
	p, pattern := stageOf(ts).process(ts, args[0]), compile(ts, args[1])
	if neg {
		if pattern.MatchString(p.output.String()) {
			ts.Fatalf("%s has written what matches %s:\n%s", args[0], pattern, p.output.String())
		}
		return
	}
	if !await(func() bool { return pattern.MatchString(p.output.String()) }) {
		ts.Fatalf("%s has not written what matches %s:\n%s", args[0], pattern, p.output.String())
	}
	if match := pattern.FindStringSubmatch(p.output.String()); len(match) > 1 {
		ts.Setenv("match", match[1])
	}
}

func compile(ts *testscript.TestScript, pattern string) *regexp.Regexp {
	r, err := regexp.Compile("(?m)" + pattern)
	ts.Check(err)
	return r
}

// await PATTERN PROGRAM [ARG...]: repeats a program until what it writes to stdout
// matches; with !, until it no longer does.
func awaitCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: await PATTERN PROGRAM [ARG...]")
	}
	pattern := compile(ts, args[0])
	path, err := lookPath(ts.Getenv("PATH"), args[1])
	ts.Check(err)
	var out []byte
	if !await(func() bool {
		c := exec.Command(path, args[2:]...)
		c.Args[0], c.Dir, c.Env = args[1], ts.MkAbs("."), environ(ts)
		out, _ = c.Output()
		return pattern.Match(out) != neg
	}) {
		ts.Fatalf("%s: still no answer as wanted; the last:\n%s", strings.Join(args, " "), out)
	}
	fmt.Fprintf(ts.Stdout(), "%s", out)
}

// port NAME...: sets each variable to a free port of 127.0.0.1.
func portCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		port, err := pickPort()
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// code CODE PROGRAM [ARG...]: runs a program that ends with an exit code.
func codeCommand(ts *testscript.TestScript, _ bool, args []string) {
	path, err := lookPath(ts.Getenv("PATH"), args[1])
	ts.Check(err)
	c := exec.Command(path, args[2:]...)
	c.Args[0], c.Dir, c.Env = args[1], ts.MkAbs("."), environ(ts)
	c.Stdout, c.Stderr = ts.Stdout(), ts.Stderr()
	if got := strconv.Itoa(shellCode(c.Run(), c)); got != args[0] {
		ts.Fatalf("%s ended with %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// same A B: two texts are the same.
func sameCommand(ts *testscript.TestScript, neg bool, args []string) {
	if (args[0] == args[1]) == neg {
		ts.Fatalf("%q and %q: the same is %v", args[0], args[1], !neg)
	}
}

// validator checks answers against the API's own description.
var validator = sync.OnceValues(func() (*apitest.Validator, error) { return apitest.NewValidator(httpapi.OpenAPI()) })

// http STATUS METHOD [AGENT]PATH [-H 'Name: value']... [BODY]: asks an agent's API, by
// default the first's. The answer is on stdout, its headers are on stderr, and both are
// held against /openapi.json.
func httpCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: http STATUS METHOD PATH [-H HEADER]... [BODY]")
	}
	url, header, rest := args[2], http.Header{}, args[3:]
	if strings.HasPrefix(url, "/") {
		url = ts.Getenv("DISC_AGENT") + url
	}
	for len(rest) >= 2 && rest[0] == "-H" {
		name, value, _ := strings.Cut(rest[1], ":")
		header.Add(name, strings.TrimSpace(value))
		rest = rest[2:]
	}
	v, err := validator()
	ts.Check(err)
	req, err := http.NewRequestWithContext(context.Background(), args[1], url, strings.NewReader(strings.Join(rest, " ")))
	ts.Check(err)
	req.Header = header
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	if len(rest) > 0 && header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	client := &http.Client{Transport: v.Transport(&http.Transport{DisableKeepAlives: true}), Timeout: waitTimeout}
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		ts.Check(err)
	}
	resp.Header.Write(ts.Stderr())
	ts.Stdout().Write(indent(body))
	if strconv.Itoa(resp.StatusCode) != args[0] {
		ts.Fatalf("%s %s: %s, want %s\n%s", args[1], url, resp.Status, args[0], body)
	}
}

// indent makes JSON fit to be matched line by line.
func indent(body []byte) []byte {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return body
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return body
	}
	return append(b, '\n')
}
