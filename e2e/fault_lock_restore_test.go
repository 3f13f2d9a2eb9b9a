package e2e_test

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
)

// longQuarantine lasts longer than etcd is away in a test, so that a grant is still promised when
// etcd is back.
const longQuarantine = 10 * time.Second

// longSession outlasts the absences of etcd, too. Its keepalives are more frequent than
// longQuarantine, which bounds what an agent promises after each of them.
const longSession = "session: {ttl: 15s}"

// comeback is a way in which etcd comes back without its last writes.
type comeback struct {
	save    func(*etcdtest.Cluster) string
	load    func(*etcdtest.Cluster, string)
	forgets bool // it is empty
}

func (c comeback) run(t *testing.T, etcd *etcdtest.Cluster, saved string) (back time.Time) {
	t.Helper()
	etcd.Kill()
	c.load(etcd, saved)
	if c.forgets {
		etcd.StartHidden(func(direct *clientv3.Client) { setQuarantine(t, direct, longQuarantine) })
	} else {
		etcd.Start()
	}
	return time.Now()
}

func saveData(etcd *etcdtest.Cluster) string {
	etcd.Kill()
	defer etcd.Start()
	return etcd.CopyData()
}

func saveNothing(*etcdtest.Cluster) string { return "" }

// bump is the number that etcd's documentation adds to the revision of a restored snapshot.
const bump = 1_000_000_000

// The comebacks of the tests.
var (
	dataPutBack      = comeback{save: saveData, load: (*etcdtest.Cluster).PutBack}
	snapshotRestored = comeback{save: (*etcdtest.Cluster).Snapshot, load: func(c *etcdtest.Cluster, file string) { c.Restore(file, 0) }}
	snapshotBumped   = comeback{save: (*etcdtest.Cluster).Snapshot, load: func(c *etcdtest.Cluster, file string) { c.Restore(file, bump) }}
	wiped            = comeback{saveNothing, func(c *etcdtest.Cluster, _ string) { c.Wipe() }, true}
	replaced         = comeback{saveNothing, func(c *etcdtest.Cluster, _ string) { c.Replace() }, true}
)

// eachSize runs a test for an etcd of one member and for one of three.
func eachSize(t *testing.T, test func(t *testing.T, size int)) {
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprintf("of %d", size), func(t *testing.T) {
			t.Parallel()
			test(t, size)
		})
	}
}

// TestFaultLockRestored lets etcd lose a grant while its holder renews it, and another client asks
// for it: etcd is restored from a backup from before the grant, or wiped. The holder is told, the
// other gets the grant once everything that was promised to the first has ended, and fences rise.
func TestFaultLockRestored(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "restores etcd in many ways")
	t.Parallel()
	for name, f := range map[string]struct {
		comeback
		of    exclusive
		early bool // the backup is from before the agents
	}{
		"a lock, the data directory is put back":             {dataPutBack, lockNamed("job"), false},
		"a claim, the data directory is put back":            {dataPutBack, slotOf("gpu"), false},
		"the data directory from before the agents":          {dataPutBack, lockNamed("job"), true},
		"a snapshot is restored":                             {snapshotRestored, lockNamed("job"), false},
		"a snapshot is restored, and its revision is bumped": {snapshotBumped, lockNamed("job"), false},
		"a lock, etcd is wiped":                              {wiped, lockNamed("job"), false},
		"a claim, etcd is wiped":                             {wiped, slotOf("gpu"), false},
		"etcd is replaced by another":                        {replaced, lockNamed("job"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachSize(t, func(t *testing.T, size int) {
				etcd := startStore(t, size, longQuarantine)
				saved := ""
				if f.early {
					saved = f.save(etcd)
				}
				one, two := startSidecar(t, "one", endpoints(etcd), longSession), startSidecar(t, "two", endpoints(etcd), longSession)
				two.register(t, "gpu", "gpu-1")
				one.find(t, "gpu", "gpu-1")
				if !f.early {
					saved = f.save(etcd)
				}
				holder := one.hold(t, f.of)
				next := two.contend(t, f.of)
				defer next.follows(t, holder)
				holder.renewsOn(t, "the first renews its grant")

				back := f.run(t, etcd, saved)
				within(t, back, 5*time.Second, "the first is told that its grant is lost", holder.told)
				within(t, back, 5*time.Second+longQuarantine, "the next has the grant", next.granted)
				next.renewsOn(t, "the next renews its grant")
				holder.promisedAtMost(t, longQuarantine)
			})
		})
	}
}

// TestFaultLockRestoredApart restores etcd from a backup from before a grant while the holder's agent
// is cut off, and cannot learn of it. The next gets the grant once everything that was promised to
// the holder has ended.
func TestFaultLockRestoredApart(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "restores a cluster of etcd")
	t.Parallel()
	etcd, job := startStore(t, 1, longQuarantine), lockNamed("job")
	link := etcdtest.StartLink(t, endpoints(etcd))
	one, two := startSidecar(t, "one", link.Endpoint(), longSession), startSidecar(t, "two", endpoints(etcd), longSession)
	saved := dataPutBack.save(etcd)
	holder, next := one.hold(t, job), two.contend(t, job)
	defer next.follows(t, holder)
	holder.renewsOn(t, "the first renews its grant")
	link.Freeze()
	back := dataPutBack.run(t, etcd, saved)
	within(t, back, 5*time.Second+longQuarantine, "the next has the grant", next.granted)
	link.Cut()
	link.Mend()
	within(t, time.Now(), 5*time.Second, "the first is told that its grant is lost", holder.told)
}

// TestFaultLockInBackup restores etcd from a backup that has a grant. Its holder keeps it, and the
// next gets it only after the holder has released it.
func TestFaultLockInBackup(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "restores etcd three times")
	t.Parallel()
	for name, f := range map[string]comeback{
		"the data directory is put back":                     dataPutBack,
		"a snapshot is restored":                             snapshotRestored,
		"a snapshot is restored, and its revision is bumped": snapshotBumped,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachSize(t, func(t *testing.T, size int) {
				etcd, job := startStore(t, size, longQuarantine), lockNamed("job")
				one, two := startSidecar(t, "one", endpoints(etcd), longSession), startSidecar(t, "two", endpoints(etcd), longSession)
				holder := one.hold(t, job)
				saved := f.save(etcd)
				holder.renewsOn(t, "the holder renews its lock")
				two.takeOthers(t) // writes to lose

				next := two.contend(t, job)
				defer next.follows(t, holder)
				back := f.run(t, etcd, saved)
				pause(time.Until(back.Add(longQuarantine + 5*time.Second)))
				holder.renewsOn(t, "the holder still renews its lock")
				if next.granted() == nil {
					t.Error("another has the lock, too")
				}
				holder.release(t)
				within(t, time.Now(), 2*time.Second, "the next has the lock", next.granted)
			})
		})
	}
}

// TestFaultLockReleasedBeforeRestore restores etcd from a backup that has a grant which was released
// since. The grant does not keep the next client out for longer than the quarantine.
func TestFaultLockReleasedBeforeRestore(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "restores etcd three times")
	t.Parallel()
	for name, f := range map[string]comeback{
		"the data directory is put back":                     dataPutBack,
		"a snapshot is restored":                             snapshotRestored,
		"a snapshot is restored, and its revision is bumped": snapshotBumped,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd, job := startStore(t, 1, longQuarantine), lockNamed("job")
			one, two := startSidecar(t, "one", endpoints(etcd)), startSidecar(t, "two", endpoints(etcd))
			first := one.hold(t, job)
			saved := f.save(etcd)
			first.release(t)

			back := f.run(t, etcd, saved)
			next := two.contend(t, job)
			within(t, back, 2*time.Second+longQuarantine, "the next has the lock", next.granted)
			next.follows(t, first)
			next.release(t)
			one.hold(t, job).follows(t, next)
		})
	}
}

// TestFaultLockRestoredWithoutAgents restores etcd, or wipes it, while no agent runs. The agents that
// start then grant locks. Only a bumped snapshot keeps their fences above the earlier ones.
func TestFaultLockRestoredWithoutAgents(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		comeback
		loses bool // the fences begin again
	}{
		"etcd is wiped":                     {wiped, true},
		"a snapshot is restored and bumped": {snapshotBumped, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd, job := startStore(t, 1, longQuarantine), lockNamed("job")
			saved := f.save(etcd)
			one := startSidecar(t, "one", endpoints(etcd))
			one.takeOthers(t) // fences that the backup does not know
			first := one.hold(t, job)
			first.stop()
			one.crash(t, nil)

			back := f.run(t, etcd, saved)
			two := startSidecar(t, "two", endpoints(etcd))
			next := two.contend(t, job)
			within(t, back, 10*time.Second+longQuarantine, "the next has the lock", next.granted)
			t.Logf("the fences are %d and %d", first.got.fence, next.got.fence)
			if !f.loses && next.got.fence <= first.got.fence {
				t.Error("the fence went down")
			}
		})
	}
}
