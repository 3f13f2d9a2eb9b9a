package etcdtest

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Bundled is the etcd that this module is built with, as a program: the binary of the tests runs it
// under this name. See [Main].
const Bundled = "etcdserver"

// process is a program of etcd that a test starts, suspends and kills.
type process struct {
	t       testing.TB
	name    string
	command *exec.Cmd // nil unless it runs
	output  *bytes.Buffer
}

// start starts a program, unless it runs. The program ends with the tests, also if these are killed.
func (p *process) start(program string, args ...string) {
	p.t.Helper()
	if p.command != nil {
		return
	}
	command := exec.Command(program, args...)
	if program == Bundled {
		self, err := os.Executable()
		if err != nil {
			p.t.Fatal(err)
		}
		command = exec.Command(self, args...)
		command.Args[0] = Bundled
	}
	p.output = &bytes.Buffer{}
	command.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH=arm64")
	command.Stdout, command.Stderr = p.output, p.output
	command.SysProcAttr = dyingWithParent()
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.command = command
}

// Runs reports whether the process has been started and not killed since.
func (p *process) Runs() bool { return p.command != nil }

// Kill kills the process, if it runs.
func (p *process) Kill() {
	if p.command == nil {
		return
	}
	p.signal(syscall.SIGKILL)
	p.command.Wait() // its error says that the process was killed
	p.command = nil
	if p.t.Failed() {
		p.t.Logf("%s:\n%s", p.name, p.output)
	}
}

// Pid returns the id of the process, which must run.
func (p *process) Pid() int { return p.command.Process.Pid }

// Pause suspends the process until Continue, like a host that hangs.
func (p *process) Pause() { p.signal(syscall.SIGSTOP) }

// Continue resumes a paused process.
func (p *process) Continue() { p.signal(syscall.SIGCONT) }

func (p *process) signal(s syscall.Signal) {
	if err := p.command.Process.Signal(s); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
}
