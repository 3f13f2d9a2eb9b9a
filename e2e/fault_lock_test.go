package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
)

// What a command under a lock does: it writes its fence, again and again, into what the
// lock guards. The stubborn one does not end when it is told to.
const (
	writeFence             = `while :; do echo $DISC_FENCE; sleep 0.02; done >>"$GUARDED"`
	writeFenceIgnoringTERM = `trap "" TERM; ` + writeFence
)

// guardedFile is a file that a lock is to keep all but one from writing to.
type guardedFile struct {
	lock string
	file string
}

func newGuardedFile(t *testing.T, lock string) guardedFile {
	return guardedFile{lock, filepath.Join(t.TempDir(), "guarded")}
}

// fences are those of the writers in the order of their writes; of one that wrote again
// and again there is one.
func (g guardedFile) fences(t *testing.T) []int64 {
	t.Helper()
	written, err := os.ReadFile(g.file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var fences []int64
	for line := range strings.Lines(string(written)) {
		var fence int64
		if _, err := fmt.Sscanln(line, &fence); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		fences = append(fences, fence)
	}
	return slices.Compact(fences)
}

// writers returns an error unless so many have written, each after the one before.
func (g guardedFile) writers(t *testing.T, n int) error {
	t.Helper()
	fences := g.fences(t)
	if !slices.IsSorted(fences) {
		t.Fatalf("%s was written to by two at once: the fences are, in the order of the writes, %v", g.lock, fences)
	}
	if len(fences) != n {
		return fmt.Errorf("so far the fences are %v", fences)
	}
	return nil
}

// runUnderLock runs a script under the lock, as soon as it is to be had through an agent.
func (s *sidecar) runUnderLock(t *testing.T, g guardedFile, script string) *process {
	t.Helper()
	command := s.lockCommand("lock", g.lock, "--kill-timeout", "2s", "--", "sh", "-c", script)
	command.Env = append(os.Environ(), "GUARDED="+g.file)
	return background(t, command)
}

func (s *sidecar) lockCommand(args ...string) *exec.Cmd {
	at := slices.Index(args, "--")
	return exec.Command("disc", slices.Insert(args, at, "--agent", "unix://"+filepath.Join(s.dir, "disc.sock"))...)
}

// holdAndQueue has one hold the lock by a script, and another wait for it.
func holdAndQueue(t *testing.T, etcd *member, g guardedFile, one, two *sidecar, script string) (holder, waiter *process) {
	t.Helper()
	holder = one.runUnderLock(t, g, script)
	within(t, time.Now(), waitTimeout, "the first has the lock", func() error { return g.writers(t, 1) })
	waiter = two.runUnderLock(t, g, writeFence)
	client := etcdtest.Client(t, etcd.endpoint)
	within(t, time.Now(), waitTimeout, "the second waits", func() error {
		r, err := client.Get(t.Context(), "/disc/v1/default/locks/"+g.lock+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && r.Count != 2 {
			err = fmt.Errorf("the queue has %d", r.Count)
		}
		return err
	})
	return holder, waiter
}

// TestFaultLockHolderStopped has the agent through which a lock is held stand still, lose
// etcd, or die, for longer than its TTL: the command has ended, even one that does not want
// to, before the next begins. An agent that is back takes nothing from who has it now.
func TestFaultLockHolderStopped(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		script     string
		harm, heal func(*sidecar, *testing.T, *etcdtest.Link)
	}{
		"its agent stands still, and the command does not listen": {writeFenceIgnoringTERM, (*sidecar).suspend, (*sidecar).resume},
		"its agent is cut off from etcd":                          {writeFence, (*sidecar).disconnect, (*sidecar).reconnect},
		"its agent is killed, and started again":                  {writeFence, (*sidecar).crash, (*sidecar).restart},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := startMember(t)
			link := etcdtest.StartLink(t, etcd.endpoint)
			one, two := startSidecar(t, "one", link.Endpoint()), startSidecar(t, "two", etcd.endpoint)
			g := newGuardedFile(t, "job")
			holder, waiter := holdAndQueue(t, etcd, g, one, two, fault.script)

			harmed := time.Now()
			fault.harm(one, t, link)
			within(t, harmed, ttl+2*time.Second, "the next begins", func() error { return g.writers(t, 2) })
			within(t, harmed, ttl+2*time.Second, "the holder has ended", holder.exited)
			if holder.code != 5 {
				t.Errorf("the holder ended with %d", holder.code)
			}

			fault.heal(one, t, link)
			within(t, time.Now(), 10*time.Second, "the agent knows who has it", func() error {
				said, _ := one.lockCommand("lock", g.lock, "--try", "--", "true").CombinedOutput()
				if !strings.Contains(string(said), "is held by node two") {
					return fmt.Errorf("%s", said)
				}
				return nil
			})
			last := one.runUnderLock(t, g, writeFence)
			waiter.signal(syscall.SIGTERM)
			within(t, time.Now(), 5*time.Second, "and has it again, behind the other", func() error { return g.writers(t, 3) })
			last.signal(syscall.SIGTERM)
			within(t, time.Now(), 5*time.Second, "ended", last.exited)
		})
	}
}

func (s *sidecar) suspend(*testing.T, *etcdtest.Link) { s.signal(syscall.SIGSTOP) }
func (s *sidecar) resume(*testing.T, *etcdtest.Link)  { s.signal(syscall.SIGCONT) }

func (s *sidecar) disconnect(_ *testing.T, link *etcdtest.Link) { link.Freeze() }
func (s *sidecar) reconnect(_ *testing.T, link *etcdtest.Link)  { link.Mend() }

func (s *sidecar) crash(*testing.T, *etcdtest.Link) {
	s.signal(syscall.SIGKILL)
	<-s.ended
}
func (s *sidecar) restart(t *testing.T, _ *etcdtest.Link) { s.start(t) }

// TestFaultLockSuspended has a 'disc lock' stand still while its agent dies: nothing ends
// its command, and only the fence tells its writes from those of who has the lock now. Once
// it goes on, it ends the command at once.
func TestFaultLockSuspended(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one, two := startSidecar(t, "one", etcd.endpoint), startSidecar(t, "two", etcd.endpoint)
	g := newGuardedFile(t, "job")
	holder, waiter := holdAndQueue(t, etcd, g, one, two, writeFenceIgnoringTERM)
	first := g.fences(t)[0]

	holder.signal(syscall.SIGSTOP)
	one.crash(t, nil)
	within(t, time.Now(), ttl+2*time.Second, "both write, the next with a higher fence", func() error {
		fences := g.fences(t)
		if slices.Max(fences) == first || !slices.Contains(fences[1:], first) {
			return fmt.Errorf("the fences are %v", fences)
		}
		return nil
	})
	holder.signal(syscall.SIGCONT)
	within(t, time.Now(), time.Second, "it has ended", holder.exited)
	if holder.code != 5 {
		t.Errorf("it ended with %d", holder.code)
	}
	if err := os.Truncate(g.file, 0); err != nil {
		t.Fatal(err)
	}
	waiter.signal(syscall.SIGTERM)
	within(t, time.Now(), 5*time.Second, "the next ends when it is told to", waiter.exited)
	if slices.Contains(g.fences(t), first) {
		t.Error("its command still writes")
	}
}

// TestFaultLockKilled kills a 'disc lock': its command dies with it, and the next begins
// without waiting for any TTL.
func TestFaultLockKilled(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one, two := startSidecar(t, "one", etcd.endpoint, "session: {ttl: 1h}"), startSidecar(t, "two", etcd.endpoint)
	g := newGuardedFile(t, "job")
	holder, _ := holdAndQueue(t, etcd, g, one, two, writeFenceIgnoringTERM)
	killed := time.Now()
	holder.signal(syscall.SIGKILL)
	within(t, killed, 2*time.Second, "the next begins", func() error { return g.writers(t, 2) })
	pause(time.Second) // in which the one before would write
	if err := g.writers(t, 2); err != nil {
		t.Error(err)
	}
}
