package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"disc/discovery"
)

// registered is how many instances the bounds are about.
const registered = 10_000

// many returns a registration as a host of a large fleet has thousands of.
func many(n int) discovery.Registration {
	return discovery.Registration{Service: "web", ID: fmt.Sprintf("web-%05d", n), Port: 1024 + n, Zone: "a",
		Tags: discovery.Tags{"v2", "blue"}, Meta: discovery.Meta{"team": "core"}}
}

// written returns the bytes that this process has written so far.
func written(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip(err)
	}
	n, err := strconv.Atoi(string(regexp.MustCompile(`wchar: (\d+)`).FindSubmatch(b)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Registrations one after the other write little each, however many there are already.
func TestWrittenForEachRegistration(t *testing.T) {
	s, _ := storeIn(t, memory(t))
	began := written(t)
	for n := range registered {
		if err := s.put(keyOf("web", many(n).ID), many(n)).wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if each := (written(t) - began) / registered; each > 1000 {
		t.Errorf("%d bytes written for each of %d registrations, want at most 1000", each, registered)
	}
}

// memory returns a directory in memory, where a sync costs nothing, if there is one.
func memory(t testing.TB) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "disc-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	return path
}

// maxTimesBare bounds what a registration takes, in times of a bare append and sync.
const maxTimesBare = 1.5

// BenchmarkRegister compares registrations one after the other with a bare loop that appends as
// many lines to a file and syncs each. It fails above maxTimesBare. The registry does not run:
// etcd has no part in it.
func BenchmarkRegister(b *testing.B) {
	for range b.N {
		bare, full := bareLoop(b), registerMany(b)
		times := full.Seconds() / bare.Seconds()
		if times > maxTimesBare {
			b.Errorf("registrations take %.2f times what bare appends do, want at most %v", times, maxTimesBare)
		}
		b.ReportMetric(times, "times-bare")
		b.ReportMetric(float64(full.Microseconds())/registered, "µs/registration")
	}
}

func bareLoop(b *testing.B) time.Duration {
	b.Helper()
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "file"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	line := make([]byte, 200)
	began := time.Now()
	for range registered {
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}

func registerMany(b *testing.B) time.Duration {
	b.Helper()
	g := alone(b, b.TempDir())
	g.settle = 0
	g.load(nil)
	began := time.Now()
	for n := range registered {
		done, err := g.Register(b.Context(), many(n))
		if err != nil || done.Warning == "" { // it is not in etcd
			b.Fatal(done, err)
		}
	}
	return time.Since(began)
}
