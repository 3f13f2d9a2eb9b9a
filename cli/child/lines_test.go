package child_test

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is the time limit of waits for an event that must happen. It only affects how
// soon a failing test ends.
const patience = time.Minute

// lines collects the output of a process.
type lines struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func newLines() *lines { return &lines{changed: make(chan struct{})} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(b), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits for a whole line with a prefix and returns it.
func (l *lines) await(t *testing.T, prefix string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		text, changed := l.text.String(), l.changed
		l.mu.Unlock()
		whole := text[:strings.LastIndexByte(text, '\n')+1]
		for line := range strings.Lines(whole) {
			if strings.HasPrefix(line, prefix) {
				return strings.TrimSuffix(line, "\n")
			}
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no line begins with %q in:\n%s", prefix, text)
		}
	}
}

// exists reports whether a process exists, even as a zombie.
func exists(pid int) bool { return syscall.Kill(pid, 0) == nil }

// runs reports whether a process exists and is not a zombie. In some containers nothing
// reaps orphans, so that they stay zombies.
func runs(pid int) bool {
	fields := stat(pid)
	return len(fields) > 0 && fields[0] != "Z" && fields[0] != "X"
}

func parent(pid int) int {
	fields := stat(pid)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// stat returns the fields of /proc/PID/stat from the state on, see proc(5); none if the
// process has ended.
func stat(pid int) []string {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	_, after, _ := strings.Cut(string(line), ") ")
	return strings.Fields(after)
}
