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
	"strings"
	"syscall"
	"time"
)

// waitTimeout bounds every wait for something that is to come.
const waitTimeout = time.Minute

// program is how disc is started.
type program struct {
	path string
	env  []string
	dir  string // to be removed in the end
}

// build builds disc as it is released: static, without symbols.
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

// stage is what a row has running. It goes with the row.
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
	for n := len(s.closers) - 1; n >= 0; n-- {
		s.closers[n]()
	}
	for n := len(s.processes) - 1; n >= 0; n-- {
		s.processes[n].kill()
	}
	os.RemoveAll(s.dir)
}

// onClose has something done at the end of the row, the newest first.
func (s *stage) onClose(f func()) { s.closers = append(s.closers, f) }

// size returns n, or with -quick what is left of it: a little.
func (s *stage) size(n, quick int) int {
	if s.quick {
		return quick
	}
	return n
}

// process is a program that runs beside.
type process struct {
	command *exec.Cmd
	lines   *bufio.Reader // of its output
	output  io.Closer
}

// run starts a program that is ended with the row at the latest, and with this
// process. It is told its input, if that is not nil, and its output and log are read
// by [process.await].
func (s *stage) run(c *exec.Cmd, input io.Reader) (*process, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	c.Stdin, c.Stdout, c.Stderr = input, in, in
	c.Env = append(c.Environ(), "TMPDIR="+s.dir) // it is killed, and cannot clean up
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		out.Close()
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	p := &process{command: c, lines: bufio.NewReader(out), output: out}
	s.processes = append(s.processes, p)
	return p, nil
}

// await reads the output until a line has what is looked for, and returns the line.
// What comes later is thrown away, so that the program never waits for its reader.
func (p *process) await(part string) (string, error) {
	late := time.AfterFunc(waitTimeout, p.kill)
	defer late.Stop()
	var read strings.Builder
	for {
		line, err := p.lines.ReadString('\n')
		read.WriteString(line)
		if err != nil {
			return "", fmt.Errorf("%s ended or took more than %v before it said %q:\n%s", p.command.Path, waitTimeout, part, read.String())
		}
		if strings.Contains(line, part) {
			go io.Copy(io.Discard, p.lines) // until the process ends
			return strings.TrimSpace(line), nil
		}
	}
}

func (p *process) kill() {
	p.command.Process.Kill() // it may have ended
	p.command.Wait()
	p.output.Close()
}

func (p *process) pid() int { return p.command.Process.Pid }

// input returns a file with a value as JSON, for a role's input.
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
