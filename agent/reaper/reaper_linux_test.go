package reaper_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"disc/agent/reaper"
)

func TestMain(m *testing.M) {
	if os.Getenv("REAPER_TEST") != "" {
		os.Exit(runInit())
	}
	os.Exit(m.Run())
}

// orphans is a command that leaves ten processes behind, which end at once.
const orphans = "for n in 1 2 3 4 5 6 7 8 9 10; do sleep 0 & done; exit 7"

// runInit becomes the parent of orphans, as the first process of a container is. It runs commands that
// leave some, until no child is left, and prints the exit codes of the commands.
func runInit() int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
		return 1
	}
	if os.Getenv("REAPER_TEST") == "reaps" {
		go reaper.Run(context.Background())
	}
	for range 10 {
		c := exec.Command("sh", "-c", orphans)
		if err := reaper.Start(c); err != nil {
			fmt.Println(err)
			return 1
		}
		_ = reaper.Wait(c)
		fmt.Println("exit code", c.ProcessState.ExitCode())
	}
	for len(reaper.Children(os.Getpid())) > 0 && os.Getenv("REAPER_TEST") == "reaps" {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("left", len(reaper.Children(os.Getpid())))
	return 0
}

func TestOrphans(t *testing.T) {
	for mode, reaps := range map[string]bool{"reaps": true, "does not": false} {
		t.Run(mode, func(t *testing.T) {
			c := exec.CommandContext(t.Context(), os.Args[0])
			c.Env = append(os.Environ(), "REAPER_TEST="+mode)
			out, err := c.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var codes int
			var last string
			for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
				if last = lines.Text(); last == "exit code 7" {
					codes++
				}
			}
			if codes != 10 || (last == "left 0") != reaps {
				t.Errorf("want the exit code 7 ten times, and no child left: %t\n%s", reaps, out)
			}
		})
	}
}
