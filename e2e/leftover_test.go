package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
)

// TestInterruptedTestsLeaveNothing kills these tests while they run. The processes that they
// started and their files go with them.
func TestInterruptedTestsLeaveNothing(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "disc-") // the path of a socket must be short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			command := exec.Command(os.Args[0], "-test.run=^(TestFaultLockKilled|TestFaultForkingCheck|TestScripts/run)$", "-test.parallel=4", "-test.count=100") // they do not end by themselves
			command.Env = append(os.Environ(), "TMPDIR="+dir)
			tests := background(t, command)
			within(t, time.Now(), waitTimeout, "processes of theirs run", func() error {
				if all := etcdtest.Processes(dir); len(all) < 6 {
					return fmt.Errorf("%d processes", len(all))
				}
				return nil
			})
			tests.signal(signal)
			<-tests.ended
			within(t, time.Now(), 5*time.Second, "nothing is left", func() error {
				if all := etcdtest.Processes(dir); len(all) > 0 {
					return fmt.Errorf("%d processes: %v", len(all), all)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					return fmt.Errorf("files: %v (%v)", left, err)
				}
				return nil
			})
		})
	}
}
