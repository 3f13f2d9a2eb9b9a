package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"disc/config"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

func parseRun(args ...string) (runOptions, error) {
	var o runOptions
	c := &cobra.Command{}
	o.addFlags(c)
	if err := c.ParseFlags(args); err != nil {
		return o, err
	}
	return o, o.buildRegistration(c.Flags().Changed, "host-1")
}

func TestRunOptions(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string // the registration as JSON
	}{
		{"--service web --port 8080", `{"service":"web","id":"web-host-1-8080","port":8080}`},
		{"--service web", `{"service":"web","id":"web-host-1-` + strconv.Itoa(os.Getpid()) + `"}`},
		{"--service web --id w1 --port 8080 --ports grpc=9090,admin=9091 --address 10.0.0.5 --zone a --weight 0 --slots 3 --tag v2,v3 --tag x --meta Team=core --meta a=b",
			`{"service":"web","id":"w1","address":"10.0.0.5","port":8080,"ports":{"admin":9091,"grpc":9090},"zone":"a","weight":0,"slots":3,"tags":["v2","v3","x"],"meta":{"Team":"core","a":"b"}}`},
		{"--service web --id w1 --port 80 --check tcp --check tcp://127.0.0.1:81",
			`{"service":"web","id":"w1","port":80,"checks":[{"type":"tcp"},{"type":"tcp","address":"127.0.0.1:81"}]}`},
		{"--service web --id w1 --port 80 --check http --check /healthz --check http://127.0.0.1:81/x --check https://localhost/",
			`{"service":"web","id":"w1","port":80,"checks":[{"type":"http","url":"http://127.0.0.1:80/"},{"type":"http","url":"http://127.0.0.1:80/healthz"},{"type":"http","url":"http://127.0.0.1:81/x"},{"type":"http","url":"https://localhost/"}]}`},
		{"--service web --id w1 --port 80 --address ::1 --check http",
			`{"service":"web","id":"w1","address":"::1","port":80,"checks":[{"type":"http","url":"http://[::1]:80/"}]}`},
		{"--service web --id w1 --port 80 --check grpc --check grpc://127.0.0.1:81/web.Health",
			`{"service":"web","id":"w1","port":80,"checks":[{"type":"grpc"},{"type":"grpc","address":"127.0.0.1:81","service":"web.Health"}]}`},
		{"--service web --id w1 --port 80 --check grpcs --check https://localhost/ --check /x --check-server-name web.internal --check-skip-verify",
			`{"service":"web","id":"w1","port":80,"checks":[{"type":"grpc","tls":true,"server_name":"web.internal","skip_verify":true},{"type":"http","url":"https://localhost/","server_name":"web.internal","skip_verify":true},{"type":"http","url":"http://127.0.0.1:80/x"}]}`},
		{"--service web --id w1 --check ttl:30s", `{"service":"web","id":"w1","checks":[{"type":"ttl","ttl":"30s"}]}`},
		{"--service web --id w1 --port 80 --check tcp --interval 2s --timeout 500ms",
			`{"service":"web","id":"w1","port":80,"checks":[{"type":"tcp","interval":"2s","timeout":"500ms"}]}`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			o, err := parseRun(strings.Fields(tt.args)...)
			if err != nil {
				t.Errorf("%s: %v", tt.args, err)
				return
			}
			got, err := json.Marshal(o.Registration)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("%s:\ngot  %s\nwant %s", tt.args, got, tt.want)
			}
		})
	}
}

func TestRunOptionsRefused(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "--service is missing"},
		{"--service -web", "begins with"},
		{"--service web --id a/b", "instance id"},
		{"--service web --port 65536", "port 65536 is out of range"},
		{"--service web --ports grpc=0", "port grpc 0 is out of range"},
		{"--service web --ports grpc=x", "invalid syntax"},
		{"--service web --address 10.0.0.5:80", "the port goes into its own field"},
		{"--service web --weight -1", "weight -1 is out of range"},
		{"--service web --slots 0", "slots 0 is out of range"},
		{"--service web --tag a/b", `tag "a/b"`},
		{"--service web --check tcp", "needs an address, or an instance with a port"},
		{"--service web --check http", "requires --port, or a URL"},
		{"--service web --check /healthz", "a path requires --port"},
		{"--service web --port 80 --check udp", "use tcp, grpc"},
		{"--service web --port 80 --check http:", "use tcp, grpc"},
		{"--service web --port 80 --check tcp://", "use tcp, grpc"},
		{"--service web --port 80 --check tcp://127.0.0.1", "not host:port"},
		{"--service web --port 80 --check ttl:soon", `"soon" is not a duration`},
		{"--service web --port 80 --check tcp --interval 1s --timeout 2s", "at most the interval"},
		{"--service web --interval 1s", "give a --check"},
		{"--service web --port 80 --check /x --check-skip-verify", "give a --check of https or grpcs"},
		{"--service web --drain-delay -1s", "must not be negative"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			if _, err := parseRun(strings.Fields(tt.args)...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v, want %q", tt.args, err, tt.want)
			}
		})
	}
}

// A wrong command line starts no command.
func TestRunUsage(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "started")
	for _, args := range [][]string{
		{"run", "--", "touch", marker},
		{"run", "--service", "web", "--port", "70000", "--", "touch", marker},
		{"run", "--service", "web", "--wieght", "1", "--", "touch", marker},
		{"run", "--service", "web"},
	} {
		var out, errs bytes.Buffer
		io := &IO{In: strings.NewReader(""), Out: &out, Err: &errs,
			Host: config.Host{Hostname: "n1", EUID: 1, Env: func(string) (string, bool) { return "", false }}}
		if code := Main(t.Context(), args, io); code != exitUsage || errs.Len() == 0 {
			t.Errorf("%q: got exit code %d and %q", args, code, errs.String())
		}
	}
	if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the command was started: %v", err)
	}
}

func TestRunIsRegisteredWhileItLives(t *testing.T) {
	t.Parallel()
	a := startAgent(t, etcdtest.Start(t).Endpoint(), "", t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	p := startDisc(t, a.url, "run", "--service", "web", "--id", "web-1", "--port", port, "--check", "tcp", "--interval", "100ms", "--tag", "v2",
		"--", "sh", "-c", `trap 'exit 3' HUP; echo "$DISC_SERVICE $DISC_INSTANCE $PORT"; while :; do sleep 0.01; done`)
	p.says("web web-1 " + port)
	endpoint := a.answers("v2.web", 1).Endpoints[0]
	if endpoint.ID != "web-1" || strconv.Itoa(endpoint.Port) != port || endpoint.Status != discovery.Passing {
		t.Errorf("got %+v", endpoint)
	}
	p.send(syscall.SIGHUP) // forwarded to the command
	if got := p.code(); got != 3 {
		t.Errorf("got exit code %d", got)
	}
	a.answers("web", 0)
	for line := range strings.Lines(p.stderr.String()) {
		if !strings.Contains(line, "is not in etcd yet") && !strings.Contains(line, "is not deregistered: ") { // etcd may be slow
			t.Errorf("got on stderr: %s", line)
		}
	}
}

// Callers see that the instance is deregistered while the command still runs. A second
// SIGTERM ends the delay.
func TestRunDrains(t *testing.T) {
	t.Parallel()
	a := startAgent(t, etcdtest.Start(t).Endpoint(), "", t.TempDir())
	p := startDisc(t, a.url, "run", "--service", "web", "--port", "80", "--drain-delay", "1h",
		"--", "sh", "-c", `trap 'echo stopped; exit 7' TERM; trap 'echo alive' USR1; echo ready; while :; do sleep 0.01; done`)
	p.says("ready")
	a.answers("web", 1)
	p.send(syscall.SIGTERM)
	a.answers("web", 0)
	p.send(syscall.SIGUSR1)
	p.says("alive")
	if strings.Contains(p.stdout.String(), "stopped") {
		t.Error("the command was stopped before the drain delay")
	}
	p.send(syscall.SIGTERM)
	if got := p.code(); got != 7 {
		t.Errorf("got exit code %d", got)
	}
}

func TestRunKillsAfterTheTimeout(t *testing.T) {
	t.Parallel()
	a := startAgent(t, etcdtest.Start(t).Endpoint(), "", t.TempDir())
	p := startDisc(t, a.url, "run", "--service", "web", "--port", "80", "--kill-timeout", "50ms",
		"--", "sh", "-c", `trap '' TERM; echo ready; while :; do sleep 0.01; done`)
	p.says("ready")
	p.send(syscall.SIGINT)
	if got := p.code(); got != 128+9 {
		t.Errorf("got exit code %d", got)
	}
	a.answers("web", 0)
}

// The command runs without an agent, and when the agent ends.
func TestRunWithoutAgent(t *testing.T) {
	t.Parallel()
	etcd, dir, address := etcdtest.Start(t).Endpoint(), t.TempDir(), etcdtest.Address(t)
	p := startDisc(t, "http://"+address, "run", "--service", "web", "--port", "80", "--", "sh", "-c", "echo runs; read line; exec sleep 1000")
	p.says("runs")
	p.warns("web/web-n1-80 is not registered: ask agent at http://" + address)
	for range 2 {
		a := startAgent(t, etcd, address, dir)
		a.answers("web", 1)
		a.stop()
	}
	p.send(syscall.SIGTERM)
	if got := p.code(); got != 128+15 {
		t.Errorf("got exit code %d", got)
	}
}

// The second holder waits for the id. When it ends, it does not deregister the first.
func TestRunConflict(t *testing.T) {
	t.Parallel()
	a := startAgent(t, etcdtest.Start(t).Endpoint(), "", t.TempDir())
	args := []string{"run", "--service", "web", "--id", "web-1", "--port", "80", "--", "sleep", "1000"}
	first := startDisc(t, a.url, args...)
	a.answers("web", 1)
	second, third := startDisc(t, a.url, args...), startDisc(t, a.url, args...)
	second.warns("web/web-1 is not registered: web/web-1 is held by another open request")
	third.warns("web/web-1 is not registered: web/web-1 is held by another open request")
	second.send(syscall.SIGTERM)
	if got := second.code(); got != 128+15 {
		t.Errorf("got exit code %d", got)
	}
	a.answers("web", 1)
	first.send(syscall.SIGTERM)
	first.code()
	a.answers("web", 1) // now of the third holder
	third.send(syscall.SIGTERM)
	third.code()
	a.answers("web", 0)
}

func TestRunCannotStart(t *testing.T) {
	t.Parallel()
	p := startDisc(t, "http://127.0.0.1:1", "run", "--service", "web", "--", "./no-such-command")
	if got := p.code(); got != 127 {
		t.Errorf("got exit code %d", got)
	}
	if got := p.stderr.String(); got != "disc: run ./no-such-command: no such file or directory\n" {
		t.Errorf("got stderr %q", got)
	}
}

func TestRunIsKilled(t *testing.T) {
	t.Parallel()
	p := startDisc(t, "http://127.0.0.1:1", "run", "--service", "web", "--", "sh", "-c", "echo pid $$.; exec sleep 1000")
	p.says(".\n")
	text, _, _ := strings.Cut(strings.TrimPrefix(p.stdout.String(), "pid "), ".")
	p.send(syscall.SIGKILL)
	p.code()
	retrytest.Eventually(t, "the command is gone", func() bool {
		stat, err := os.ReadFile("/proc/" + text + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ") // a zombie, if nothing reaps orphans
	})
}

// Somebody at a terminal learns why the command goes on for a while.
func TestRunSaysThatItDrains(t *testing.T) {
	term := atAgent(t)
	term.watched = true
	n := 0
	retrytest.Succeeds(t, func() error { // an instance may be in etcd before the command hears of it, and then nothing drains
		n++
		id := strconv.Itoa(n)
		running := term.start("run", "--service", "web", "--id", id, "--port", "80", "--drain-delay", "100ms", "--", "sleep", "1000")
		term.await("web/"+id+"\n", "list", "web", "-o", "name")
		running.interrupt()
		running.ends()
		if got, want := running.err.String(), "web/"+id+" is deregistered; the command is stopped in 100ms"; !strings.Contains(got, want) {
			return fmt.Errorf("got on stderr %q, want %q", got, want)
		}
		return nil
	})
}
