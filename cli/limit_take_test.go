package cli

import (
	"syscall"
	"testing"
)

// A take that waits says on a terminal what it waits for, and also when a signal ends it.
func TestLimitTakeSaysThatItWaits(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	term.ok("limit", "set", "sms", "1/h")
	term.await("sms", "limit", "list")
	term.await("1 taken", "limit", "take", "sms") // the agent may have to buy it first
	term.watched = true
	waiting := term.start("limit", "take", "sms", "--wait", "3h")
	waiting.says(`disc: waiting for 1 token of limit "sms"`)
	waiting.end(signalError{syscall.SIGTERM})
	if code := waiting.ends(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("got exit code %d", code)
	}
	waiting.says(`stopped by SIGTERM while waiting for limit "sms"`)
}
