package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"disc/agent/reaper"
)

// waitTimeout bounds every wait for a condition.
const waitTimeout = time.Minute

// program is the disc binary to measure.
type program struct {
	path string
	env  []string
	dir  string // temporary; the caller removes it
}

// build builds disc as releases are built: static and without symbols.
func build(ctx context.Context) (program, error) {
	dir, err := os.MkdirTemp("", "disc-bench-")
	if err != nil {
		return program{}, err
	}
	p := program{path: filepath.Join(dir, "disc"), dir: dir}
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", p.path, "disc/cmd/disc")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return program{}, errors.Join(fmt.Errorf("build disc: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return p, nil
}

// stage has the processes and connections of one row. close ends them with the row.
type stage struct {
	settings
	disc      program
	dir       string
	processes []*process
	closers   []func()
}

func newStage(s settings, p program) (*stage, error) {
	dir, err := os.MkdirTemp("", "disc-bench-row-")
	return &stage{settings: s, disc: p, dir: dir}, err
}

func (s *stage) close() {
	for _, f := range slices.Backward(s.closers) {
		f()
	}
	for _, p := range slices.Backward(s.processes) {
		p.kill()
	}
	os.RemoveAll(s.dir)
}

// onClose registers f to be called at the end of the row, the newest first.
func (s *stage) onClose(f func()) { s.closers = append(s.closers, f) }

// size returns n, or quick with -quick.
func (s *stage) size(n, quick int) int {
	if s.quick {
		return quick
	}
	return n
}

// process is a program that a row runs in the background.
type process struct {
	command *exec.Cmd
	lines   *bufio.Reader // its stdout and stderr
	output  io.Closer
}

// run starts a program, which is killed when the row or this process ends. A nil input is
// an empty one. [process.await] reads what the program writes.
func (s *stage) run(c *exec.Cmd, input io.Reader) (*process, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	c.Stdin, c.Stdout, c.Stderr = input, in, in
	c.Env = append(c.Environ(), "TMPDIR="+s.dir) // a killed program leaves its temporary files
	c.SysProcAttr = &syscall.SysProcAttr{}
	reaper.DieWithParent(c.SysProcAttr)
	if err := c.Start(); err != nil {
		out.Close()
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	p := &process{command: c, lines: bufio.NewReader(out), output: out}
	s.processes = append(s.processes, p)
	return p, nil
}

// await reads the output up to the first line that contains part, and returns this line.
// It discards everything after it, so that the program never blocks on its output. It
// returns an error when the program ends, or after [waitTimeout].
func (p *process) await(part string) (string, error) {
	late := time.AfterFunc(waitTimeout, p.kill)
	defer late.Stop()
	var read strings.Builder
	for {
		line, err := p.lines.ReadString('\n')
		read.WriteString(line)
		if err != nil {
			return "", fmt.Errorf("%s ended, or took more than %v, without writing %q:\n%s", p.command.Path, waitTimeout, part, read.String())
		}
		if strings.Contains(line, part) {
			go io.Copy(io.Discard, p.lines) // until the process ends
			return strings.TrimSpace(line), nil
		}
	}
}

func (p *process) kill() {
	p.command.Process.Kill() // it may have ended already
	p.command.Wait()
	p.output.Close()
}

func (p *process) pid() int { return p.command.Process.Pid }

// input returns a file that has value as JSON, as the input of a role. It is closed with the
// row.
func (s *stage) input(name string, value any) (*os.File, error) {
	path := filepath.Join(s.dir, name+".json")
	b, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err == nil {
		s.onClose(func() { f.Close() })
	}
	return f, err
}
