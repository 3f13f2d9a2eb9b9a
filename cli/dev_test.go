package cli

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"disc/discovery/retry/retrytest"
)

// startDev runs 'disc dev' and makes the terminal use its agent and etcd.
func startDev(t *testing.T, term *terminal, args ...string) *background {
	t.Helper()
	dev := term.start(append([]string{"dev", "--http", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0"}, args...)...)
	dev.prints("disc is running")
	found := regexp.MustCompile(`agent at (\S+), etcd at (\S+), DNS at (\S+)\. `).FindStringSubmatch(dev.out.String())
	if found == nil {
		t.Fatalf("got\n%s", dev.out)
	}
	term.env["DISC_AGENT"], term.env["DISC_ENDPOINTS"] = found[1], found[2]
	return dev
}

func TestDevKeepsItsDataWhenAsked(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	dir := t.TempDir()
	for _, want := range []string{"", "web\n"} {
		dev := startDev(t, term, "--data-dir", dir)
		if got := term.ok("list", "-o", "name"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		term.ok("set", "web/one", "10.0.0.1:1")
		term.await("10.0.0.1:1", "lookup", "web")
		dev.interrupt()
		if code := dev.ends(); code != exitDone {
			t.Errorf("got exit code %d: %s", code, dev.err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("got %v, %v in the data directory, want one for etcd and one for the agent", entries, err)
	}
}

func TestDevDemo(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	dev := startDev(t, term, "--demo")
	dev.prints("web/web-2 at")
	for _, want := range []string{" list --endpoints " + term.env["DISC_ENDPOINTS"], " lookup web --agent " + term.env["DISC_AGENT"], "curl 127.0.0.1:"} {
		if !strings.Contains(dev.out.String(), want) {
			t.Errorf("got\n%swant %q in it", dev.out, want)
		}
	}
	retrytest.Eventually(t, "all services are in etcd", func() bool {
		return term.ok("list", "-o", "template={{.service}} {{.total}}") == "api 1\nweb 2\n"
	})
	term.ok("wait", "web", "--min", "2")
	kill := regexp.MustCompile(`kill (\d+) +# web/web-1 at`).FindStringSubmatch(dev.out.String())
	if kill == nil {
		t.Fatalf("got\n%s", dev.out)
	}
	pid, err := strconv.Atoi(kill[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	retrytest.Eventually(t, "the killed one is gone", func() bool { return term.disc("lookup", "web", "-o", "name").out == "web-2\n" })
	dev.interrupt()
	if code := dev.ends(); code != exitDone {
		t.Errorf("got exit code %d: %s", code, dev.err)
	}
	if syscall.Kill(pid, 0) == nil {
		t.Error("the killed service was not reaped")
	}
}

func TestDevRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.Addr().String()
	term := newTerminal(t)
	term.fails(exitFailed, at+": bind: address already in use", "dev", "--etcd-listen", at, "--http", "127.0.0.1:0")
	term.fails(exitFailed, "http.listen "+at+" is in use", "dev", "--etcd-listen", "127.0.0.1:0", "--http", at)
	t.Run("every port that is in use is named, with its flag", func(t *testing.T) {
		others := newTerminal(t)
		for _, etcd := range []string{at, "127.0.0.1:0"} {
			r := others.disc("dev", "--etcd-listen", etcd, "--http", at, "--dns", at, "--grpc", at)
			for setting, flag := range map[string]string{"http.listen": "--http", "dns.listen": "--dns", "grpc.listen": "--grpc"} {
				want := fmt.Sprintf("%s %s is in use: stop the process that listens there, or choose another address with %s\n", setting, at, flag)
				if r.code != exitFailed || !strings.Contains(r.stderr, want) {
					t.Errorf("got exit code %d, stderr\n%swant %q", r.code, r.stderr, want)
				}
			}
			if named := strings.Contains(r.stderr, "(--etcd-listen)"); named != (etcd == at) {
				t.Errorf("got on stderr\n%s", r.stderr)
			}
		}
	})
	term.env["DISC_DEMO"] = "perhaps"
	term.fails(exitUsage, "env DISC_DEMO", "dev")
}

func TestBanner(t *testing.T) {
	golden(t, "banner.txt", banner("disc", "http://127.0.0.1:3472", "127.0.0.1:2379", netip.MustParseAddrPort("127.0.0.1:3453"), nil))
	golden(t, "banner-socket.txt", banner("disc", "unix:///run/disc.sock", "127.0.0.1:2379", netip.AddrPort{}, nil))
}

func TestDialable(t *testing.T) {
	for in, want := range map[string]string{
		"0.0.0.0:80": "127.0.0.1:80", "[::]:80": "[::1]:80", "10.0.0.1:80": "10.0.0.1:80", "[::1]:80": "[::1]:80",
	} {
		t.Run(in, func(t *testing.T) {
			if got := dialable(in); got != want {
				t.Errorf("dialable(%q) = %q, want %q", in, got, want)
			}
		})
	}
}
