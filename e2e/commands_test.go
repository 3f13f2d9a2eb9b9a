package e2e_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"disc/agent/api/apitest"
	"disc/agent/httpapi"
	"disc/e2e/lastrelease"
)

// etcd [start|stop|wipe] starts an etcd at a port that stays the same, stops it, or restarts
// it without its data.
func etcdCommand(ts *testscript.TestScript, _ bool, args []string) {
	s := stageOf(ts)
	verb := "start"
	if len(args) > 0 {
		verb = args[0]
	}
	switch verb {
	case "start":
		ts.Check(s.startEtcd())
		ts.Setenv("DISC_ENDPOINTS", s.startProxy(ts))
	case "stop":
		ts.Check(s.etcd.Close())
		s.etcd = nil
	case "wipe":
		ts.Check(s.etcd.Close())
		ts.Check(exec.Command("rm", "-rf", s.env.WorkDir+"/.etcd").Run())
		ts.Check(s.startEtcd())
	default:
		ts.Fatalf("usage: etcd [start|stop|wipe]")
	}
}

// start NAME PROGRAM [ARG...] starts a program in the background. Its process id is $NAME_pid.
func startCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: start NAME PROGRAM [ARG...]")
	}
	p := stageOf(ts).start(ts, args[0], args[1], args[2:]...)
	ts.Setenv(args[0]+"_pid", strconv.Itoa(p.command.Process.Pid))
}

var listening = regexp.MustCompile(`"msg":"agent is running","http":"([^"]+)","dns":"([^"]+)"`)

// lastrelease builds the last release, as program disc-last.
func lastReleaseCommand(ts *testscript.TestScript, _ bool, _ []string) {
	program, err := lastrelease.Build()
	ts.Check(err)
	ts.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+ts.Getenv("PATH"))
}

// agent NAME [ARG...] starts an agent, of the program $AGENT_PROGRAM or disc, with its own data directory and port. If the script's etcd
// runs, it waits until the agent can answer lookups. Its URL is $NAME, and its DNS port
// $NAME_dns. The URL of the first agent is also $DISC_AGENT.
func agentCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: agent NAME [ARG...]")
	}
	name := args[0]
	p := stageOf(ts).start(ts, name, cmp.Or(ts.Getenv("AGENT_PROGRAM"), "disc"), append([]string{"agent", "--http", "127.0.0.1:0", "--data-dir", ts.MkAbs(name + ".data")}, args[1:]...)...)
	var at []string
	up := await(func() bool {
		at = listening.FindStringSubmatch(p.output.String())
		return at != nil || p.hasEnded()
	})
	if !up || at == nil {
		ts.Fatalf("agent %s does not run:\n%s", name, p.output.String())
	}
	url := "http://" + at[1]
	if stageOf(ts).etcd != nil && !await(func() bool { return isReady(at[1]) }) {
		ts.Fatalf("agent %s is not ready:\n%s", name, p.output.String())
	}
	ts.Setenv(name, url)
	_, dnsPort, _ := net.SplitHostPort(at[2])
	ts.Setenv(name+"_dns", dnsPort) // on 127.0.0.1
	if strings.HasSuffix(ts.Getenv("DISC_AGENT"), ":1") || ts.Getenv("first_agent") == name {
		ts.Setenv("DISC_AGENT", url)
		ts.Setenv("first_agent", name)
	}
}

// isReady reports whether the agent that listens at an address of this host can answer lookups.
// It may want TLS.
func isReady(address string) bool {
	_, port, _ := net.SplitHostPort(address)
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	client := http.Client{Transport: transport, Timeout: waitTimeout}
	for _, scheme := range []string{"http", "https"} {
		resp, err := client.Get(scheme + "://127.0.0.1:" + port + "/readyz/lookup")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return true
		}
	}
	return false
}

func (s *stage) process(ts *testscript.TestScript, name string) *process {
	p, ok := s.processes[name]
	if !ok {
		ts.Fatalf("there is no process %s", name)
	}
	return p
}

var signals = map[string]syscall.Signal{
	"-TERM": syscall.SIGTERM, "-INT": syscall.SIGINT, "-KILL": syscall.SIGKILL, "-HUP": syscall.SIGHUP,
	"-STOP": syscall.SIGSTOP, "-CONT": syscall.SIGCONT, "-USR1": syscall.SIGUSR1,
}

// signal [-SIGNAL] NAME|PID sends a signal to a process, by default TERM.
func signalCommand(ts *testscript.TestScript, _ bool, args []string) {
	s := syscall.SIGTERM
	if len(args) == 2 {
		var ok bool
		if s, ok = signals[args[0]]; !ok {
			ts.Fatalf("unknown signal %s", args[0])
		}
		args = args[1:]
	}
	if pid, err := strconv.Atoi(args[0]); err == nil {
		ts.Check(syscall.Kill(pid, s))
		return
	}
	stageOf(ts).process(ts, args[0]).signal(s)
}

// ended NAME [CODE] waits until a process has ended, and checks its exit code as a shell
// reports it. With !, the process must run.
func endedCommand(ts *testscript.TestScript, neg bool, args []string) {
	p := stageOf(ts).process(ts, args[0])
	if neg {
		if p.hasEnded() {
			ts.Fatalf("%s has ended with %d:\n%s", args[0], p.code, p.output.String())
		}
		return
	}
	if !await(p.hasEnded) {
		ts.Fatalf("%s has not ended:\n%s", args[0], p.output.String())
	}
	if len(args) == 2 && args[1] != strconv.Itoa(p.code) {
		ts.Fatalf("%s ended with %d, want %s:\n%s", args[0], p.code, args[1], p.output.String())
	}
}

// output NAME PATTERN waits until the output of a process matches. The pattern's first group
// becomes $match. With !, the output must not match now.
func outputCommand(ts *testscript.TestScript, neg bool, args []string) {
	p, pattern := stageOf(ts).process(ts, args[0]), compile(ts, args[1])
	if neg {
		if pattern.MatchString(p.output.String()) {
			ts.Fatalf("the output of %s matches %s:\n%s", args[0], pattern, p.output.String())
		}
		return
	}
	if !await(func() bool { return pattern.MatchString(p.output.String()) }) {
		ts.Fatalf("the output of %s does not match %s:\n%s", args[0], pattern, p.output.String())
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

// await PATTERN PROGRAM [ARG...] repeats a program until its stdout matches; with !, until it no
// longer matches.
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
		ts.Fatalf("%s: the last output is still:\n%s", strings.Join(args, " "), out)
	}
	fmt.Fprintf(ts.Stdout(), "%s", out)
}

// port NAME... sets each variable to a free port of 127.0.0.1.
func portCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		port, err := pickPort()
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// code CODE PROGRAM [ARG...] runs a program, which must end with the exit code.
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

// same A B checks that two texts are equal; with !, that they differ.
func sameCommand(ts *testscript.TestScript, neg bool, args []string) {
	if (args[0] == args[1]) == neg {
		ts.Fatalf("%q and %q: equal is %v", args[0], args[1], !neg)
	}
}

// validator checks answers against the API's OpenAPI document.
var validator = sync.OnceValues(func() (*apitest.Validator, error) { return apitest.NewValidator(httpapi.OpenAPI()) })

// http STATUS METHOD [AGENT]PATH [-H 'Name: value']... [BODY] sends a request to an agent, by
// default the first one. It writes the body to stdout and the headers to stderr, and checks both
// against /openapi.json.
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

// indent formats JSON so that a script can match it line by line.
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
