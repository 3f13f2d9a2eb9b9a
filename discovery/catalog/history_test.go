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
	var h history
	at := func(epoch string, revision int64) *view.Snapshot { return mustApply(revision).WithEpoch(epoch) }
	h.reset(at("e", 10))
	h.addScope(everything, at("e", 10))
	pair := func(revision int64) []view.Event {
		return []view.Event{{Revision: revision, ID: "a"}, {Revision: revision, ID: "b"}}
	}
	for revision := int64(11); revision <= 20; revision++ {
		h.add(at("e", revision), pair(revision))
	}
	h.add(at("e", 30), nil) // a list that found nothing
	for _, test := range []struct {
		epoch string
		after int64
		want  string
	}{
		{"e", 9, "0 false"}, {"e", 10, "20 true"}, {"e", 11, "18 true"}, {"e", 20, "0 true"}, {"e", 25, "0 true"},
		{"e", 30, "0 true"}, {"e", 31, "0 false"}, {"f", 15, "0 false"}, {"", 15, "0 false"},
	} {
		t.Run(fmt.Sprintf("after %d of %q", test.after, test.epoch), func(t *testing.T) {
			events, ok := h.since("", discovery.Cursor{Epoch: test.epoch, Revision: test.after})
			if got := fmt.Sprint(len(events), ok); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}

	returned, _ := h.since("", discovery.Cursor{Epoch: "e", Revision: 18})
	for revision := int64(31); revision < 31+historySize; revision++ {
		h.add(at("e", revision), pair(revision))
	}
	if len(returned) != 4 || returned[3].Revision != 20 {
		t.Errorf("events that were returned have changed: %v", returned)
	}
	if _, ok := h.since("", discovery.Cursor{Epoch: "e", Revision: 18}); ok {
		t.Error("a reader that is too far behind does not start over")
	}
	if n := len(h.events); n < historySize-1 || n > historySize+historySize/4+1 {
		t.Errorf("the history has %d events", n)
	}
	if events, ok := h.since("", h.floor); !ok || len(events)%2 != 0 || events[0].Revision != h.floor.Revision+1 {
		t.Errorf("from the floor: %d events, %v", len(events), ok)
	}

	h.add(at("f", 5), pair(5))
	if _, ok := h.since("", discovery.Cursor{Epoch: "e", Revision: 31 + historySize - 1}); ok {
		t.Error("a reader of the old epoch does not start over")
	}
	if events, ok := h.since("", discovery.Cursor{Epoch: "f", Revision: 5}); !ok || len(events) > 0 {
		t.Errorf("the new epoch has %v, %v", events, ok)
	}
}

// When etcd starts over under the same epoch, because no agent writes a new one, the history
// starts over too.
func TestHistoryStartsOver(t *testing.T) {
	c := etcdtest.Must(New(nil, keys, Options{}))
	c.publishScope(everything, mustApply(10), time.Now(), true)
	c.publish(state{snapshot: mustApply(20), confirmed: time.Now()}, nil, []view.Event{{Revision: 20}})
	c.publishScope(everything, mustApply(15), time.Now(), true)
	if _, ok := c.Events("", discovery.Cursor{Revision: 12}); ok {
		t.Error("a reader from before etcd started over does not start over")
	}
	if _, ok := c.Events("", discovery.Cursor{Revision: 15}); !ok {
		t.Error("a reader from after etcd started over does")
	}
}

func mustApply(revision int64) *view.Snapshot {
	s, _, _ := view.EmptySnapshot().Apply(revision, nil)
	return s
}
