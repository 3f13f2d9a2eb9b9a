package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// A command that waits ends at a signal with a code of its own, and says what it waited for.
func TestSignalsEndWaits(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	term.ok("set", "web/one", "10.0.0.1:1")
	term.ok("set", "busy/one", "10.0.0.1:1")
	term.await("10.0.0.1:1", "lookup", "web")
	term.await("10.0.0.1:1", "lookup", "busy")
	agent := term.env["DISC_AGENT"]
	for _, line := range []string{"lock job", "claim busy"} {
		holder := startDisc(t, agent, append(strings.Fields(line), "--", "sh", "-c", "echo it is held; exec sleep 1000")...)
		holder.says("it is held")
	}
	term.watched = true
	for _, tt := range []struct{ line, says string }{
		{"wait web --min 3", "waiting: web has 1 of 3 endpoints; it has no other instances"},
		{"lock job -- true", `waiting for lock "job"`},
		{"claim busy --wait 5m -- true", `waiting for a claim of "busy"`},
		{"claim busy --wait 5m", `waiting for a claim of "busy"`},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			t.Run(fmt.Sprintf("%s, %v", tt.line, sig), func(t *testing.T) {
				waiting := term.start(strings.Fields(tt.line)...)
				waiting.says("disc: " + tt.says + "\n")
				waiting.end(signalError{sig})
				if code, want := waiting.ends(), 128+int(sig); code != want {
					t.Errorf("got exit code %d, want %d", code, want)
				}
				if got, want := waiting.err.String(), fmt.Sprintf("disc: %v while %s\n", signalError{sig}, tt.says); !strings.HasSuffix(got, want) {
					t.Errorf("got on stderr %q, want %q", got, want)
				}
			})
		}
	}
}

func TestExplainStop(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	other := errors.New("etcd refuses it")
	if got := explainStop(ctx, other); !errors.Is(got, other) {
		t.Errorf("before a signal: got %v", got)
	}
	cancel(signalError{syscall.SIGTERM})
	for _, tt := range []struct {
		err  error
		want string
		code int
	}{
		{ctx.Err(), "stopped by SIGTERM", 143},
		{context.Cause(ctx), "stopped by SIGTERM", 143},
		{fmt.Errorf("lock is broken, but held: %w", ctx.Err()), "stopped by SIGTERM: lock is broken, but held", 143},
		{fmt.Errorf("ask agent: %w", context.Cause(ctx)), "stopped by SIGTERM: ask agent", 143},
		{other, "etcd refuses it", exitFailed},
	} {
		if got := explainStop(ctx, tt.err); got.Error() != tt.want || exitCode(got) != tt.code {
			t.Errorf("%v: got %q and exit code %d, want %q and %d", tt.err, got, exitCode(got), tt.want, tt.code)
		}
	}
}

func TestSignalOfTheProcess(t *testing.T) {
	t.Parallel()
	for sig, says := range map[syscall.Signal]string{syscall.SIGTERM: "disc: stopped by SIGTERM", syscall.SIGINT: "disc: stopped by SIGINT"} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := startDiscWith(t, "http://127.0.0.1:1", map[string]string{announced: "1"}, nil, "wait", "web")
			p.warns(programRuns)
			p.send(sig)
			if code, want := p.code(), 128+int(sig); code != want || !strings.Contains(p.stderr.String(), says) {
				t.Errorf("got exit code %d, want %d and %q", code, want, says)
			}
		})
	}
}
