package cli

import (
	"context"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"disc/config"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

var update = flag.Bool("update", false, "write the golden files")

// terminal runs commands inside the process of the test.
type terminal struct {
	t     *testing.T
	env   map[string]string
	stdin string
	color bool
	// screen makes stdout a terminal, watched makes stderr one.
	screen, watched bool
}

// newTerminal returns a terminal without etcd and agent.
func newTerminal(t *testing.T) *terminal {
	return &terminal{t: t, env: map[string]string{
		"HOME": t.TempDir(), "DISC_NODE": "n1", "DISC_ENDPOINTS": "127.0.0.1:1", "DISC_AGENT": "http://127.0.0.1:1", "DISC_ETCD_DIAL_TIMEOUT": patience.String(),
	}}
}

// atEtcd returns a terminal with an etcd of its own.
func atEtcd(t *testing.T) *terminal {
	term := newTerminal(t)
	term.env["DISC_ENDPOINTS"] = etcdtest.Start(t).Endpoint()
	return term
}

// put writes a key to the terminal's etcd, as another program does.
func (term *terminal) put(key, value string) {
	term.t.Helper()
	if _, err := etcdtest.Client(term.t, term.env["DISC_ENDPOINTS"]).Put(term.t.Context(), key, value); err != nil {
		term.t.Fatal(err)
	}
}

// atAgent returns a terminal with an etcd and an agent of its own.
func atAgent(t *testing.T) *terminal {
	term := atEtcd(t)
	term.env["DISC_AGENT"] = startAgent(t, term.env["DISC_ENDPOINTS"], "", t.TempDir()).url
	return term
}

func (term *terminal) io(out, err *buffer) *IO {
	env := maps.Clone(term.env)
	return &IO{
		In: strings.NewReader(term.stdin), Out: out, Err: err, Color: term.color, Screen: term.screen, Terminal: term.watched,
		Host: config.Host{Hostname: "n1", EUID: 1, Env: func(name string) (string, bool) {
			v, ok := env[name]
			return v, ok
		}},
	}
}

// result is the outcome of a command.
type result struct {
	code        int
	out, stderr string
}

// disc runs a command.
func (term *terminal) disc(args ...string) result {
	term.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, err buffer
	code := Main(ctx, args, term.io(&out, &err))
	return result{code, out.String(), err.String()}
}

// ok runs a command, which must succeed, and returns its stdout.
func (term *terminal) ok(args ...string) string {
	term.t.Helper()
	r := term.disc(args...)
	if r.code != exitDone {
		term.t.Fatalf("disc %s: got exit code %d, want 0\n%s%s", strings.Join(args, " "), r.code, r.out, r.stderr)
	}
	return r.out
}

// await runs a command repeatedly until it prints a text, and returns its stdout.
func (term *terminal) await(text string, args ...string) string {
	term.t.Helper()
	var out string
	retrytest.Eventually(term.t, "disc "+strings.Join(args, " ")+" prints "+text, func() bool {
		out = term.disc(args...).out
		return strings.Contains(out, text)
	})
	return out
}

// fails runs a command, which must end with the code and an error that contains why.
func (term *terminal) fails(code int, why string, args ...string) {
	term.t.Helper()
	r := term.disc(args...)
	if r.code != code || !strings.Contains(r.stderr, why) {
		term.t.Errorf("disc %s: got exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), r.code, code, why, r.out, r.stderr)
	}
}

// timesOut runs a command with a longer and longer --timeout until it has learned, within that
// time, why it waits. It must time out each time.
func (term *terminal) timesOut(why string, args ...string) {
	term.t.Helper()
	for timeout := 100 * time.Millisecond; ; timeout *= 2 {
		r := term.disc(append(args, "--timeout", timeout.String())...)
		if r.code != exitTimedOut || !strings.Contains(r.stderr, "timed out after "+timeout.String()+": ") {
			term.t.Fatalf("disc %s: got exit code %d after %v\n%s%s", strings.Join(args, " "), r.code, timeout, r.out, r.stderr)
		}
		if strings.Contains(r.stderr, why) {
			return
		}
		if timeout > patience/4 {
			term.t.Fatalf("disc %s: got, after %v\n%swant %q", strings.Join(args, " "), timeout, r.stderr, why)
		}
	}
}

// background is a running command.
type background struct {
	t        *testing.T
	end      context.CancelCauseFunc // ends the command's context
	out, err *buffer
	code     chan int
}

// start runs a command until it is interrupted or the test ends.
func (term *terminal) start(args ...string) *background {
	ctx, cancel := context.WithCancelCause(context.Background())
	b := &background{t: term.t, end: cancel, out: &buffer{}, err: &buffer{}, code: make(chan int, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.code <- Main(ctx, args, term.io(b.out, b.err))
	}()
	term.t.Cleanup(func() {
		cancel(nil)
		<-done
	})
	return b
}

// interrupt ends the command's context, not by a signal.
func (b *background) interrupt() { b.end(nil) }

// prints waits until the command has printed a text.
func (b *background) prints(text string) {
	b.t.Helper()
	retrytest.Eventually(b.t, "stdout has "+text, func() bool { return strings.Contains(b.out.String(), text) })
}

// says waits until the command has printed a text on stderr.
func (b *background) says(text string) {
	b.t.Helper()
	retrytest.Eventually(b.t, "stderr has "+text, func() bool { return strings.Contains(b.err.String(), text) })
}

// ends waits for the command's exit code.
func (b *background) ends() int {
	b.t.Helper()
	select {
	case code := <-b.code:
		return code
	case <-time.After(patience):
		b.t.Fatalf("it does not end; it printed:\n%s%s", b.out, b.err)
	}
	return -1
}

// golden compares a text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}
