package etcdtest

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/goleak"
)

// Main runs a package's tests as [Parallel] says, and fails when a goroutine is left. In a process
// that was started under the name [Bundled] it is etcd.
func Main(m *testing.M, leaks ...goleak.Option) {
	if os.Args[0] == Bundled {
		etcdmain.Main(os.Args)
		return
	}
	Parallel()
	goleak.VerifyTestMain(m, leaks...)
}

// Parallel lets more tests run at once than there are cores, since they wait for etcd more
// than they compute. The flag -parallel overrides it. It is called before the flags are
// parsed.
func Parallel() {
	if err := flag.Set("test.parallel", strconv.Itoa(max(8, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err) // package testing defines the flag
	}
}

// longTests is the environment variable that runs every test at full length.
const longTests = "LONG_TESTS"

// Long reports whether tests run at full length: LONG_TESTS is set. Otherwise they must fit
// into the few minutes of a newcomer's 'go test ./...'.
func Long() bool { return os.Getenv(longTests) != "" }

// Length returns how long a test is: long if [Long], else short.
func Length[T any](short, long T) T {
	if Long() {
		return long
	}
	return short
}

// Simulations returns how many histories a test simulates: long if [Long], else short. Under the race detector it is short:
// a simulation takes nearly seven times as long there, and all histories run the same code.
func Simulations(short, long int) int {
	if RaceDetector {
		return short
	}
	return Length(short, long)
}

// SkipUnlessLong skips a test that takes long, with the reason.
func SkipUnlessLong(t testing.TB, why string) {
	t.Helper()
	if !Long() {
		t.Skipf("%s; %s=1 runs it", why, longTests)
	}
}
