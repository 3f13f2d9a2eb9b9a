package catalog

import (
	"fmt"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/view"
)

func TestHistory(t *testing.T) {
	var l history
	at := func(epoch string, revision int64) *view.Snapshot { return mustApply(revision).WithEpoch(epoch) }
	l.reset(at("e", 10))
	l.addScope(everything, at("e", 10))
	pair := func(revision int64) []view.Event {
		return []view.Event{{Revision: revision, ID: "a"}, {Revision: revision, ID: "b"}}
	}
	for revision := int64(11); revision <= 20; revision++ {
		l.add(at("e", revision), pair(revision))
	}
	l.add(at("e", 30), nil) // a list that found nothing
	for _, test := range []struct {
		epoch string
		after int64
		want  string
	}{
		{"e", 9, "0 false"}, {"e", 10, "20 true"}, {"e", 11, "18 true"}, {"e", 20, "0 true"}, {"e", 25, "0 true"},
		{"e", 30, "0 true"}, {"e", 31, "0 false"}, {"f", 15, "0 false"}, {"", 15, "0 false"},
	} {
		events, ok := l.since("", discovery.Cursor{Epoch: test.epoch, Revision: test.after})
		if got := fmt.Sprint(len(events), ok); got != test.want {
			t.Errorf("after %d of %q: %s, want %s", test.after, test.epoch, got, test.want)
		}
	}

	held, _ := l.since("", discovery.Cursor{Epoch: "e", Revision: 18})
	for revision := int64(31); revision < 31+historySize; revision++ {
		l.add(at("e", revision), pair(revision))
	}
	if len(held) != 4 || held[3].Revision != 20 {
		t.Errorf("what was handed out has changed: %v", held)
	}
	if _, ok := l.since("", discovery.Cursor{Epoch: "e", Revision: 18}); ok {
		t.Error("a reader that is too far behind goes on")
	}
	if n := len(l.events); n < historySize-1 || n > historySize+historySize/4+1 {
		t.Errorf("%d events are kept", n)
	}
	if events, ok := l.since("", l.floor); !ok || len(events)%2 != 0 || events[0].Revision != l.floor.Revision+1 {
		t.Errorf("from the floor: %d events, %v", len(events), ok)
	}

	l.add(at("f", 5), pair(5))
	if _, ok := l.since("", discovery.Cursor{Epoch: "e", Revision: 31 + historySize - 1}); ok {
		t.Error("the old epoch goes on")
	}
	if events, ok := l.since("", discovery.Cursor{Epoch: "f", Revision: 5}); !ok || len(events) > 0 {
		t.Errorf("the new epoch has %v, %v", events, ok)
	}
}

// A life that began anew under the same epoch, as one without an agent to write another,
// has a log of its own.
func TestHistoryStartsOver(t *testing.T) {
	c := etcdtest.Must(New(nil, keys, Options{}))
	c.publishScope(everything, mustApply(10), time.Now(), true)
	c.publish(mustApply(20), time.Now(), nil, []view.Event{{Revision: 20}})
	c.publishScope(everything, mustApply(15), time.Now(), true)
	if _, ok := c.Events("", discovery.Cursor{Revision: 12}); ok {
		t.Error("a reader of the life before goes on")
	}
	if _, ok := c.Events("", discovery.Cursor{Revision: 15}); !ok {
		t.Error("a reader of this life does not go on")
	}
}

func mustApply(revision int64) *view.Snapshot {
	s, _, _ := view.EmptySnapshot().Apply(revision, nil)
	return s
}
