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

// The commands under a lock write their fence, again and again, to the file that the lock guards.
// The second ignores SIGTERM.
const (
	writeFence             = `while :; do echo $DISC_FENCE; sleep 0.02; done >>"$GUARDED"`
	writeFenceIgnoringTERM = `trap "" TERM; ` + writeFence
)

// guardedFile is a file to which only the holder of a lock may write.
type guardedFile struct {
	lock string
	file string
}

func newGuardedFile(t *testing.T, lock string) guardedFile {
	return guardedFile{lock, filepath.Join(t.TempDir(), "guarded")}
}

// fences returns the fences of the writers in the order of their writes, without repetitions in a
// row.
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

// writers returns an error unless n holders have written, one after the other.
func (g guardedFile) writers(t *testing.T, n int) error {
	t.Helper()
	fences := g.fences(t)
	if !slices.IsSorted(fences) {
		t.Fatalf("two holders of %s wrote at once: the fences in the order of the writes are %v", g.lock, fences)
	}
	if len(fences) != n {
		return fmt.Errorf("the fences so far are %v", fences)
	}
	return nil
}

// runUnderLock runs a script by 'disc lock' through an agent, which waits for the lock.
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

// holdAndQueue starts a holder of the lock, which runs a script, and then a waiter.
func holdAndQueue(t *testing.T, etcd *member, g guardedFile, one, two *sidecar, script string) (holder, waiter *process) {
	t.Helper()
	holder = one.runUnderLock(t, g, script)
	within(t, time.Now(), waitTimeout, "the first has the lock", func() error { return g.writers(t, 1) })
	waiter = two.runUnderLock(t, g, writeFence)
	client := etcdtest.Client(t, etcd.endpoint)
	within(t, time.Now(), waitTimeout, "the second waits", func() error {
		r, err := client.Get(t.Context(), "/disc/v1/default/locks/"+g.lock+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && r.Count != 2 {
			err = fmt.Errorf("the queue has %d entries", r.Count)
		}
		return err
	})
	return holder, waiter
}

// TestFaultLockHolderStopped pauses the agent of a lock's holder, cuts it off from etcd, or kills
// it, for longer than its TTL. The holder's command ends, even one that ignores SIGTERM, before the
// next begins. An agent that is back does not take the lock from its new holder.
func TestFaultLockHolderStopped(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "waits until sessions end")
	t.Parallel()
	for name, fault := range map[string]struct {
		script     string
		harm, heal func(*sidecar, *testing.T, *etcdtest.Link)
	}{
		"its agent is paused, and the command ignores SIGTERM": {writeFenceIgnoringTERM, (*sidecar).suspend, (*sidecar).resume},
		"its agent is cut off from etcd":                       {writeFence, (*sidecar).disconnect, (*sidecar).reconnect},
		"its agent is killed and restarted":                    {writeFence, (*sidecar).crash, (*sidecar).restart},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := startMember(t)
			setQuarantine(t, etcdtest.Client(t, etcd.endpoint), ttl) // in which the first agent grants nothing
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
			within(t, time.Now(), 10*time.Second, "the agent knows the new holder", func() error {
				said, _ := one.lockCommand("lock", g.lock, "--try", "--", "true").CombinedOutput()
				if !strings.Contains(string(said), "is held by node two") {
					return fmt.Errorf("%s", said)
				}
				return nil
			})
			last := one.runUnderLock(t, g, writeFence)
			waiter.signal(syscall.SIGTERM)
			within(t, time.Now(), 5*time.Second, "the first holder has the lock again, after the other", func() error { return g.writers(t, 3) })
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

// TestFaultLockSuspended pauses a 'disc lock' and kills its agent. Its command continues, and only
// the fence distinguishes its writes from those of the new holder. When 'disc lock' continues, it
// ends the command at once.
func TestFaultLockSuspended(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one, two := startSidecar(t, "one", etcd.endpoint), startSidecar(t, "two", etcd.endpoint)
	g := newGuardedFile(t, "job")
	holder, waiter := holdAndQueue(t, etcd, g, one, two, writeFenceIgnoringTERM)
	first := g.fences(t)[0]

	holder.signal(syscall.SIGSTOP)
	one.crash(t, nil)
	within(t, time.Now(), ttl+2*time.Second, "both write, the new holder with a higher fence", func() error {
		fences := g.fences(t)
		if slices.Max(fences) == first || !slices.Contains(fences[1:], first) {
			return fmt.Errorf("the fences are %v", fences)
		}
		return nil
	})
	holder.signal(syscall.SIGCONT)
	within(t, time.Now(), time.Second, "the first 'disc lock' has ended", holder.exited)
	if holder.code != 5 {
		t.Errorf("the first 'disc lock' ended with %d", holder.code)
	}
	if err := os.Truncate(g.file, 0); err != nil {
		t.Fatal(err)
	}
	waiter.signal(syscall.SIGTERM)
	within(t, time.Now(), 5*time.Second, "the next ends on SIGTERM", waiter.exited)
	if slices.Contains(g.fences(t), first) {
		t.Error("the first command still writes")
	}
}

// TestFaultLockKilled kills a 'disc lock'. Its command dies with it, and the next begins before any
// TTL ends.
func TestFaultLockKilled(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one, two := startSidecar(t, "one", etcd.endpoint, "session: {ttl: 1h}"), startSidecar(t, "two", etcd.endpoint)
	g := newGuardedFile(t, "job")
	holder, _ := holdAndQueue(t, etcd, g, one, two, writeFenceIgnoringTERM)
	killed := time.Now()
	holder.signal(syscall.SIGKILL)
	within(t, killed, 2*time.Second, "the next begins", func() error { return g.writers(t, 2) })
	pause(time.Second) // in which the first command would write
	if err := g.writers(t, 2); err != nil {
		t.Error(err)
	}
}
