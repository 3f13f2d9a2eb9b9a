package life

import (
	"errors"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// After a break of contact nothing is granted until etcd was seen to go on.
func TestContactBreaks(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	session := newContact()
	l := New(etcdtest.Client(t, link.Endpoint()), keys, Options{Session: session})
	if _, err := l.Guard(); !errors.Is(err, ErrContactBroken) || !Uncertain(err) || !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("before etcd was asked: %v", err)
	}
	l.runs(t)
	if _, err := l.AwaitGuard(etcdtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	session.breaks()
	if _, err := l.AwaitGuard(etcdtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if d := l.blockedFor(); d < time.Hour {
		t.Errorf("nothing is granted for %v though etcd answered", d)
	}
	link.Freeze()
	session.breaks()
	if _, err := l.Guard(); !errors.Is(err, ErrContactBroken) {
		t.Errorf("while etcd does not answer: %v", err)
	}
	retrytest.Eventually(t, "a failed probe", func() bool { return !l.probe(etcdtest.Context(t)) })
	retrytest.Eventually(t, "a failed question after the probe of Run", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.lastErr != nil
	})
	link.Mend()
	retrytest.Eventually(t, "an answer", func() bool { return l.Proven() == 2 })
	if d := l.blockedFor(); d > outageWait {
		t.Errorf("after an outage nothing is granted for %v, want at most %v", d, outageWait)
	}
	if _, err := l.Guard(); !Uncertain(err) {
		t.Errorf("at once after an outage: %v", err)
	}
}

// An agent whose own keys are gone grants nothing until the promises of others have ended.
func TestBlock(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	short(t, client)
	l := newLife(t, client)
	l.runs(t)
	if _, err := l.AwaitGuard(etcdtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	l.Block()
	if d := l.blockedFor(); d > MinQuarantine || d < MinQuarantine/2 {
		t.Errorf("blocked for %v", d)
	}
}

// An agent tells why nothing is granted: it does not know etcd yet, or has seen a quarantine.
func TestBlocked(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	l := newLife(t, client)
	if err := l.Blocked(); !errors.Is(err, ErrContactBroken) {
		t.Errorf("before etcd was asked: %v", err)
	}
	l.runs(t)
	if _, err := l.AwaitGuard(etcdtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if err := l.Blocked(); err != nil {
		t.Errorf("etcd goes on: %v", err)
	}
	l.aged(1000)
	l.check(t)
	if err := l.Blocked(); !Uncertain(err) || !strings.Contains(err.Error(), "etcd has started over") {
		t.Errorf("in a quarantine: %v", err)
	}
	l.mu.Lock()
	l.quarantined.until = uptime() // as after its time
	l.mu.Unlock()
	if err := l.Blocked(); err != nil {
		t.Errorf("after the quarantine: %v", err)
	}
	l.check(t) // etcd may still have the key for a moment
	if err := l.Blocked(); err != nil {
		t.Errorf("after the quarantine, read again: %v", err)
	}
}

// The length of a quarantine: a shorter one, and longer promises, take effect once all promises of
// the earlier length have ended.
func TestQuarantineLength(t *testing.T) {
	const s = discovery.Duration(time.Second)
	type step struct {
		at              time.Duration
		read            lengthRecord
		length, promise time.Duration
	}
	for name, steps := range map[string][]step{
		"the first": {{100 * time.Second, lengthRecord{60 * s, 0}, time.Minute, time.Minute}},
		"lowered": {
			{100 * time.Second, lengthRecord{60 * s, 0}, time.Minute, time.Minute},
			{200 * time.Second, lengthRecord{10 * s, 60 * s}, time.Minute, 10 * time.Second},
			{319 * time.Second, lengthRecord{10 * s, 60 * s}, time.Minute, 10 * time.Second},
			{320 * time.Second, lengthRecord{10 * s, 60 * s}, 10 * time.Second, 10 * time.Second},
		},
		"raised": {
			{100 * time.Second, lengthRecord{10 * s, 0}, 10 * time.Second, 10 * time.Second},
			{200 * time.Second, lengthRecord{60 * s, 10 * s}, time.Minute, 10 * time.Second},
			{320 * time.Second, lengthRecord{60 * s, 10 * s}, time.Minute, time.Minute},
		},
		"lowered by hand": {
			{100 * time.Second, lengthRecord{60 * s, 0}, time.Minute, time.Minute},
			{200 * time.Second, lengthRecord{10 * s, 0}, time.Minute, 10 * time.Second},
			{320 * time.Second, lengthRecord{10 * s, 0}, 10 * time.Second, 10 * time.Second},
		},
		"just lowered, as a new agent reads": {
			{100 * time.Second, lengthRecord{10 * s, 60 * s}, time.Minute, 10 * time.Second},
			{220 * time.Second, lengthRecord{10 * s, 60 * s}, 10 * time.Second, 10 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var q quarantine
			for _, step := range steps {
				q = q.after(step.read, step.at)
				if length, promise := q.length(step.at), q.promise(step.at); length != step.length || promise != step.promise {
					t.Errorf("at %v: a quarantine of %v and promises of %v, want %v and %v", step.at, length, promise, step.length, step.promise)
				}
			}
		})
	}
}
