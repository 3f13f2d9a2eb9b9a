package lock_test

import (
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/life"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
	"disc/discovery/retry/retrytest"
)

// apart is an agent whose connection to etcd a test breaks, and whose manager does not run, as if
// it were busy.
type apart struct {
	link    *etcdtest.Link
	session *lease.Session
	life    *life.Life
	seats   *lock.Issuer
}

func startApart(t *testing.T, endpoint string) *apart {
	link := etcdtest.StartLink(t, endpoint)
	client := etcdtest.Client(t, link.Endpoint())
	session := etcdtest.Must(lease.New(client, locktest.LongTTL, lease.Options{}))
	l := life.New(client, locktest.Keys(), life.Options{Session: session})
	manager := etcdtest.Must(lock.New(client, locktest.Keys(), session, l, lock.Options{}))
	locktest.Run(t, session.Run, l.Run)
	a := &apart{link, session, l, manager.NewIssuer("seat", "/seats/")}
	retrytest.Eventually(t, "a stream of renewals", func() bool {
		contact, _ := session.Contact()
		return contact > 0 && a.mayGrant()
	})
	return a
}

// mayGrant reports whether etcd was seen to go on in the present contact.
func (a *apart) mayGrant() bool {
	_, err := a.life.Guard()
	return err == nil
}

// Nothing is granted under a lease that follows one that was lost across a break, even before
// anything else has noticed that lease.
func TestLeaseLostAcrossBreak(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := startApart(t, etcd.Endpoint())
	first, _ := a.session.Lease()
	a.link.Cut()
	if _, err := etcdtest.Client(t, etcd.Endpoint()).Revoke(etcdtest.Context(t), first.ID); err != nil {
		t.Fatal(err)
	}
	a.link.Mend()
	retrytest.Eventually(t, "another lease", func() bool {
		now, _ := a.session.Lease()
		return now.ID != 0 && now.ID != first.ID && a.mayGrant()
	})
	p, err := a.seats.Request(etcdtest.Context(t), "1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Transact(etcdtest.Context(t), func(int64) clientv3.Op { return clientv3.OpTxn(nil, nil, nil) })
	if !life.Uncertain(err) || !strings.Contains(err.Error(), "was gone after a break") {
		t.Errorf("granted: %v", err)
	}
}

// A caller does not wait for the keys of all grants to be seen in a contact that has broken.
func TestContactBreaksBeforeConfirm(t *testing.T) {
	t.Parallel()
	a := startApart(t, etcdtest.Start(t).Endpoint())
	p, created := request(t, a.seats, time.Minute)
	time.AfterFunc(50*time.Millisecond, a.link.Cut)
	ctx := etcdtest.Context(t)
	if _, err := p.Confirm(ctx, seatKey, created, &seat{}); !life.Uncertain(err) || ctx.Err() != nil {
		t.Errorf("confirmed: %v, after a wait: %v", err, ctx.Err())
	}
}

// A lock that is broken passes on only when its holder cannot rely on it any more, also if the
// holder's agent does not see the mark because the connection of its watch hangs.
func TestBreakWhileWatchHangs(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	quarantine(t, etcd.Endpoint(), 5*time.Second)
	b := locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	link := etcdtest.StartLink(t, etcd.Endpoint())
	client := etcdtest.Client(t, link.Endpoint())
	session := etcdtest.Must(lease.New(etcdtest.Client(t, etcd.Endpoint()), locktest.LongTTL, lease.Options{}))
	l := life.New(client, locktest.Keys(), life.Options{Session: session})
	a := etcdtest.Must(lock.New(client, locktest.Keys(), session, l, lock.Options{}))
	locktest.Run(t, session.Run, l.Run, a.Run)
	retrytest.Eventually(t, "a stream of renewals", func() bool {
		contact, _ := session.Contact()
		return contact > 0 && l.Proven() == contact
	})
	g := etcdtest.Must(a.Lock(etcdtest.Context(t), "x", lock.Request{}))
	<-time.After(2 * lock.WatchDelay)
	link.Freeze()
	if _, err := b.Break(etcdtest.Context(t), "x", lock.BreakRequest{}); err != nil {
		t.Fatal(err)
	}
	b.MustLock("x", lock.Request{Wait: time.Minute})
	if left := g.ValidFor(); left > 0 {
		t.Errorf("its holder may rely on the lock for %v more while another has it", left)
	}
}

// A key that somebody deletes while contact with etcd is broken is no sign of a restore: etcd's history has
// the grant. At most the wait that follows each outage is kept.
func TestKeyDeletedAcrossBreak(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	client := etcdtest.Client(t, link.Endpoint())
	session := etcdtest.Must(lease.New(client, locktest.LongTTL, lease.Options{}))
	l := life.New(client, locktest.Keys(), life.Options{Session: session})
	a := etcdtest.Must(lock.New(client, locktest.Keys(), session, l, lock.Options{}))
	locktest.Run(t, session.Run, l.Run, a.Run)
	retrytest.Eventually(t, "a stream of renewals", func() bool {
		contact, _ := session.Contact()
		return contact > 0 && l.Proven() == contact
	})
	g := etcdtest.Must(a.Lock(etcdtest.Context(t), "x", lock.Request{}))
	<-time.After(2 * lock.WatchDelay)
	link.Cut()
	if _, err := etcdtest.Client(t, etcd.Endpoint()).Delete(etcdtest.Context(t), locktest.Keys().Lock("x"), clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	link.Mend()
	retrytest.Eventually(t, "the loss", func() bool { return g.ValidFor() <= 0 })
	retrytest.Eventually(t, "contact", func() bool {
		contact, _ := session.Contact()
		return l.Proven() == contact
	})
	if _, err := l.Guard(); err != nil && !strings.Contains(err.Error(), "no member had answered") {
		t.Error(err)
	}
}
