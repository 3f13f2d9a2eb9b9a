package cli

import (
	"context"
	"maps"
	"math/bits"
	"sync"
	"time"

	"disc/cli/render"
)

// renderCommandTimeout bounds the command of a file. A command that hangs would prevent all
// later runs.
const renderCommandTimeout = 30 * time.Second

// fileCommand is the command of one or more files. It is due for each file that has changed, until
// a run that began later has succeeded. Marks beside the files keep that for the next process.
type fileCommand struct {
	line   string
	runner *render.Runner

	mu      sync.Mutex     // held while a file is written, so that no run takes the change for an earlier one
	changes int            // the number of writes
	due     map[string]int // the number of the last write of each file
}

// fileCommands returns the commands of jobs, by line. Jobs with the same command share it, so that
// one change does not run the command twice.
func (a *app) fileCommands(jobs []*renderJob) map[string]*fileCommand {
	commands := map[string]*fileCommand{}
	for _, job := range jobs {
		if job.command == "" || commands[job.command] != nil {
			continue
		}
		c := &fileCommand{line: job.command, due: map[string]int{}}
		c.runner = render.NewRunner(func(ctx context.Context, failures int) error { return a.runFileCommand(ctx, c, failures) })
		commands[job.command] = c
	}
	return commands
}

// write writes a file, and reports whether it has changed.
func (c *fileCommand) write(file string, content []byte) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed, err = render.WriteMarked(file, content)
	if changed {
		c.changes++
		c.due[file] = c.changes
	}
	return changed, err
}

// resumeCommands requests the commands that an earlier process did not run with success.
func (a *app) resumeCommands(f fileRenderer) {
	for _, job := range f.jobs {
		c := f.commands[job.command]
		if c != nil && !a.isStream(job.file) && c.resume(job.file) {
			c.runner.Request()
		}
	}
}

// resume reports whether an earlier process marked a file, which is due then. It asks for the mark
// while no run can remove it.
func (c *fileCommand) resume(file string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.due[file]; known || !render.Marked(file) {
		return false
	}
	c.due[file] = c.changes
	return true
}

// runFileCommand runs a command. It says that one fails, and shows the output, at the first, second,
// fourth, … failure in a row.
func (a *app) runFileCommand(ctx context.Context, c *fileCommand, failures int) error {
	c.mu.Lock()
	due := maps.Clone(c.due)
	c.mu.Unlock()
	said := bits.OnesCount(uint(failures+1)) == 1
	command := render.Command{Line: c.line, Limit: renderCommandTimeout}
	if said {
		command.Stdout, command.Stderr = a.io.Err, a.io.Err
	}
	if err := command.Run(ctx); err != nil {
		if said {
			a.infof("%v; trying again", err)
		}
		return err
	}
	a.settle(c, due)
	if failures > 0 {
		a.infof("run %q: done, after %d failures", c.line, failures)
	}
	return nil
}

// settle notes that a command has succeeded for the files that were due when it began.
func (a *app) settle(c *fileCommand, due map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for file, change := range due {
		if c.due[file] != change {
			continue // it has changed since
		}
		delete(c.due, file)
		if err := render.Unmark(file); err != nil {
			a.infof("%v; the command runs once more when render starts again", err)
		}
	}
}
