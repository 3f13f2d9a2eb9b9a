package life

import (
	"errors"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// A change of the length names the length before. While a change has not taken effect, another one
// is refused.
func TestQuarantineChange(t *testing.T) {
	t.Parallel()
	const s = discovery.Duration(time.Second)
	never := quarantine{lengthRecord: lengthRecord{60 * s, 0}, since: 100 * time.Second}
	lowered := never.after(lengthRecord{10 * s, 60 * s}, 200*time.Second)
	raised := never.after(lengthRecord{90 * s, 60 * s}, 200*time.Second)
	byHand := never.after(lengthRecord{10 * s, 0}, 200*time.Second)
	fresh := quarantine{}.after(lengthRecord{10 * s, 60 * s}, 200*time.Second)
	for name, c := range map[string]struct {
		known      quarantine
		length, at time.Duration
		want       lengthRecord
		kind       error
		says       string
	}{
		"lowered":                          {known: never, length: 10 * time.Second, at: 101 * time.Second, want: lengthRecord{10 * s, 60 * s}},
		"raised":                           {known: never, length: time.Hour, at: 101 * time.Second, want: lengthRecord{3600 * s, 60 * s}},
		"as before":                        {known: lowered, length: 10 * time.Second, at: 201 * time.Second, want: lengthRecord{10 * s, 60 * s}},
		"too short":                        {known: never, length: MinQuarantine - 1, at: 300 * time.Second, kind: discovery.ErrInvalid, says: "from 2s to 1h"},
		"too long":                         {known: never, length: MaxQuarantine + 1, at: 300 * time.Second, kind: discovery.ErrInvalid, says: "from 2s to 1h"},
		"after a decrease":                 {known: lowered, length: 5 * time.Second, at: 201500 * time.Millisecond, kind: discovery.ErrConflict, says: "changed to 10s a short time ago, which takes effect in 1m59s"},
		"after a decrease in effect":       {known: lowered, length: 5 * time.Second, at: 320 * time.Second, want: lengthRecord{5 * s, 10 * s}},
		"after an increase":                {known: raised, length: 30 * time.Second, at: 340 * time.Second, kind: discovery.ErrConflict, says: "takes effect in 10s"},
		"after an increase in effect":      {known: raised, length: 30 * time.Second, at: 350 * time.Second, want: lengthRecord{30 * s, 90 * s}},
		"after a decrease by hand":         {known: byHand, length: 5 * time.Second, at: 319 * time.Second, kind: discovery.ErrConflict, says: "takes effect in 1s"},
		"after a decrease, by a new agent": {known: fresh, length: 5 * time.Second, at: 319 * time.Second, kind: discovery.ErrConflict, says: "takes effect in 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := c.known.change(c.length, c.at)
			if got != c.want || !errors.Is(err, c.kind) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%+v, %v; want %+v, %v", got, err, c.want, c.kind)
			}
		})
	}
}

// A length that one agent sets is known to another one that reads it, with the length before.
func TestSetQuarantine(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	setter, reader := newLife(t, client), newLife(t, client)
	if s, err := reader.QuarantineStatus(etcdtest.Context(t)); err != nil || s != (QuarantineStatus{Length: DefaultQuarantine}) {
		t.Fatalf("before: %+v, %v", s, err)
	}
	s, err := setter.SetQuarantine(etcdtest.Context(t), 30*time.Minute)
	if err != nil || s.Length != 30*time.Minute || s.InEffectWithin <= 0 || s.Active {
		t.Fatalf("%+v, %v", s, err)
	}
	if value, _ := get(t, client, keys.QuarantineLength()); value != `{"length":"30m","before":"1m"}` {
		t.Errorf("the record is %s", value)
	}
	late := newLife(t, client)
	late.check(t)
	reader.check(t)
	for name, l := range map[string]*Life{"setter": setter, "reader": reader, "late": late} {
		if l.Quarantine() != 30*time.Minute || l.MaxPromise() != time.Minute {
			t.Errorf("%s: a quarantine of %v, and promises of %v", name, l.Quarantine(), l.MaxPromise())
		}
		if _, err := l.SetQuarantine(etcdtest.Context(t), time.Minute); !errors.Is(err, discovery.ErrConflict) {
			t.Errorf("%s: another change: %v", name, err)
		}
		if _, err := l.SetQuarantine(etcdtest.Context(t), 30*time.Minute); err != nil {
			t.Errorf("%s: the same length: %v", name, err)
		}
	}
}

// Of two changes at a time one is made.
func TestSetQuarantineConflict(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	l := newLife(t, client)
	l.check(t)
	found, err := l.observe(etcdtest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	short(t, client)
	if err := l.writeLength(etcdtest.Context(t), found, lengthRecord{Length: discovery.Duration(time.Hour)}); !errors.Is(err, discovery.ErrConflict) {
		t.Errorf("after another change: %v", err)
	}
	if found, err = l.observe(etcdtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	put(t, client, keys.Epoch(), "another")
	if err := l.writeLength(etcdtest.Context(t), found, lengthRecord{Length: discovery.Duration(time.Hour)}); !errors.Is(err, discovery.ErrConflict) {
		t.Errorf("in another life of etcd: %v", err)
	}
	if value, _ := get(t, client, keys.QuarantineLength()); value != `{"length":"2s"}` {
		t.Errorf("the record is %s", value)
	}
}

// The status tells why there is a quarantine, and for how long.
func TestQuarantineStatus(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	l := newLife(t, client)
	l.check(t)
	l.aged(1000)
	s, err := l.QuarantineStatus(etcdtest.Context(t))
	if err != nil || !s.Active || s.Reason != "the revision went back" || s.EndsWithin <= 0 || s.EndsWithin > DefaultQuarantine {
		t.Errorf("%+v, %v", s, err)
	}
}
