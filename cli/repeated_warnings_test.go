package cli

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// warningLog is a log with repeated warnings held back. Its clock is that of a test.
type warningLog struct {
	*slog.Logger
	said    *saidWarnings
	stopped chan struct{}
	out     bytes.Buffer
}

func newWarningLog() *warningLog {
	l := &warningLog{stopped: make(chan struct{})}
	h := newRepeatHandler(l.stopped, slog.NewTextHandler(&l.out, nil))
	l.Logger, l.said = slog.New(h), h.said
	return l
}

// after lets time pass and returns what was said meanwhile, without times.
func (l *warningLog) after(d time.Duration) string {
	time.Sleep(d)
	synctest.Wait()
	l.said.mu.Lock() // as the timer does
	defer l.said.mu.Unlock()
	defer l.out.Reset()
	return strings.TrimSuffix(regexp.MustCompile(`(?m)^time=\S+ level=`).ReplaceAllString(l.out.String(), ""), "\n")
}

// expect compares what is said while time passes.
func (l *warningLog) expect(t *testing.T, d time.Duration, want ...string) {
	t.Helper()
	if got := l.after(d); got != strings.Join(want, "\n") {
		t.Errorf("got  %q\nwant %q", got, strings.Join(want, "\n"))
	}
}

// TestRepeatedWarnings expects that a warning that repeats is said once a minute, the newest of a
// minute with their number when it ends, and that others, errors and what is less are not held back.
func TestRepeatedWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWarningLog()
		l.Warn("lost", "failures", 1)
		l.expect(t, time.Second, `WARN msg=lost failures=1`)
		l.Warn("lost", "failures", 2)
		l.Warn("lost", "failures", 3)
		l.expect(t, time.Second)
		l.Warn("lost", "error", "refused")
		l.expect(t, 0, `WARN msg=lost error=refused`)
		part := l.With("part", "dns")
		part.Warn("lost")
		part.Warn("lost")
		l.expect(t, 0, `WARN msg=lost part=dns`)
		for range 2 {
			l.Error("failed")
			l.Info("connected")
		}
		l.expect(t, 0, `ERROR msg=failed`, `INFO msg=connected`, `ERROR msg=failed`, `INFO msg=connected`)
		l.Warn("lost", "failures", 4)
		l.expect(t, 57*time.Second)
		l.expect(t, time.Second, `WARN msg=lost failures=4 repeated=3`)
		l.expect(t, 2*time.Second, `WARN msg=lost part=dns repeated=1`)
		l.Warn("lost", "failures", 5)
		l.expect(t, 57*time.Second)
		l.expect(t, time.Second, `WARN msg=lost failures=5 repeated=1`)
		if l.expect(t, time.Hour); l.said.timer != nil {
			t.Error("there is a timer while nothing is held back")
		}
		l.Warn("lost", "failures", 6)
		l.expect(t, 0, `WARN msg=lost failures=6`)
	})
}

// TestRepeatedWarningHasItsTime expects that a warning that was held back has the time at which it
// came.
func TestRepeatedWarningHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWarningLog()
		l.Warn("lost")
		time.Sleep(20 * time.Second)
		l.Warn("lost")
		want := "time=" + time.Now().Format("2006-01-02T15:04:05.000")
		time.Sleep(time.Minute)
		synctest.Wait()
		if lines := strings.Split(l.out.String(), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[1], want) {
			t.Errorf("got %q, want %s in the second line", lines, want)
		}
	})
}

// TestWarningsSaidEachTime expects that a warning that answers what somebody did, or that limits
// itself, is not held back.
func TestWarningsSaidEachTime(t *testing.T) {
	for _, attribute := range []slog.Attr{slog.String("by", "ann"), slog.String("setting", "dns.ttl"), slog.Int("not_logged", 97)} {
		t.Run(attribute.Key, func(t *testing.T) {
			l := newWarningLog()
			for range 3 {
				l.Warn("changed", slog.String("name", "db"), attribute)
			}
			if n := strings.Count(l.out.String(), "\n"); n != 3 || strings.Contains(l.out.String(), "repeated") {
				t.Errorf("%d of 3 lines: %s", n, &l.out)
			}
		})
	}
}

// TestManyWarnings expects that only so many warnings are compared, and that none of those held back
// is lost.
func TestManyWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWarningLog()
		const all = 3 * maxRepeated
		for n := range all {
			for range 3 {
				l.Warn("warning", "n", n)
			}
			if len(l.said.by) > maxRepeated {
				t.Fatalf("%d warnings are kept", len(l.said.by))
			}
			time.Sleep(time.Millisecond)
		}
		if n := strings.Count(l.after(0), "repeated=2"); n != all-maxRepeated {
			t.Errorf("%d are said when they are forgotten, want %d", n, all-maxRepeated)
		}
		if n := strings.Count(l.after(time.Minute), "repeated=2"); n != maxRepeated {
			t.Errorf("%d are said when their minute ends, want %d", n, maxRepeated)
		}
	})
}

// TestLastWarnings expects that the end of the log, or the first record after the program is to stop,
// says what is held back, in its order, and that nothing is held back afterwards.
func TestLastWarnings(t *testing.T) {
	for name, end := range map[string]func(*warningLog){
		"end":  func(l *warningLog) { l.said.close() },
		"stop": func(l *warningLog) { close(l.stopped) },
	} {
		t.Run(name, func(t *testing.T) { lastWarnings(t, end) })
	}
}

func lastWarnings(t *testing.T, end func(*warningLog)) {
	synctest.Test(t, func(t *testing.T) {
		l := newWarningLog()
		for range 2 {
			l.Warn("one")
			l.Warn("two")
			l.after(time.Second)
		}
		l.Warn("one")
		l.after(0)
		end(l)
		l.Info("stopping")
		l.Warn("two")
		l.Warn("two")
		l.expect(t, time.Hour, `WARN msg=two repeated=1`, `WARN msg=one repeated=2`, `INFO msg=stopping`, `WARN msg=two`, `WARN msg=two`)
		l.said.close()
	})
}
