package kv

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

var (
	histories  = flag.Int("kv.histories", 50, "number of histories to check")
	operations = flag.Int("kv.operations", 500, "operations of each history")
)

const historyKeys = 3

// cell is the model's state of a key. Revision 0: it does not exist; -1: it was written by a
// client that did not learn the revision.
type cell struct {
	value    int
	revision int64
}

// change is the model's operation on one key.
type change struct {
	key       int
	value     int // 0: delete
	condition *int64
}

// call is a write of some keys or, without changes, a read of one; answer is its result.
type call struct {
	read    int
	changes []change
}

type answer struct {
	unknown, conflict bool
	revision          int64 // of the write, or of what was read
	value             int
}

// registers is the model: a few keys that are read one at a time and written together.
var registers = porcupine.Model{
	Init: func() any { return [historyKeys]cell{} },
	Step: func(state, input, output any) (bool, any) {
		s, c, a := state.([historyKeys]cell), input.(call), output.(answer)
		if c.changes == nil {
			is := s[c.read]
			s[c.read].revision = a.revision // a read reveals an unknown revision
			return is.value == a.value && (is.revision == a.revision || is.revision < 0 && a.revision > 0), s
		}
		holds := true
		for _, ch := range c.changes {
			holds = holds && (ch.condition == nil || *ch.condition == s[ch.key].revision)
		}
		if !holds {
			return a.unknown || a.conflict, s
		}
		for _, ch := range c.changes {
			s[ch.key] = cell{ch.value, a.revision}
			if ch.value == 0 {
				s[ch.key].revision = 0
			}
		}
		return !a.conflict, s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// opHistory records the concurrent operations of several clients.
type opHistory struct {
	name  string
	began time.Time
	left  atomic.Int64 // operations
	value atomic.Int64 // the last one written; no value is written twice

	mu  sync.Mutex
	all []porcupine.Operation
}

func (h *opHistory) now() int64 { return int64(time.Since(h.began)) }

func (h *opHistory) key(n int) string { return fmt.Sprintf("%s/%d", h.name, n) }

// add adds an operation. One with an unknown outcome may take effect at any later time.
func (h *opHistory) add(client int, c call, a answer, called int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	returned := h.now()
	if a.unknown {
		returned = math.MaxInt64
	}
	h.all = append(h.all, porcupine.Operation{ClientId: client, Input: c, Output: a, Call: called, Return: returned})
}

// run is one client: it reads, and writes with conditions on what it has seen.
func (h *opHistory) run(t *testing.T, client int, s *Store) {
	var seen [historyKeys]int64
	for h.left.Add(-1) >= 0 {
		called := h.now()
		if rand.IntN(2) == 0 {
			n := rand.IntN(historyKeys)
			item, _, err := s.Get(t.Context(), h.key(n), Read{Linearizable: true})
			if err != nil && !errors.Is(err, discovery.ErrNotFound) {
				h.left.Add(1)
				continue // nothing was read
			}
			value, _ := strconv.Atoi(string(item.Value))
			seen[n] = item.Revision
			h.add(client, call{read: n}, answer{revision: item.Revision, value: value}, called)
			continue
		}
		c, ops := h.write(seen)
		revision, err := s.Write(t.Context(), ops...)
		if err != nil && !errors.Is(err, discovery.ErrConflict) && !errors.Is(err, ErrOutcomeUnknown) {
			h.left.Add(1)
			continue // nothing was written
		}
		h.add(client, c, answer{
			unknown: errors.Is(err, ErrOutcomeUnknown), conflict: errors.Is(err, discovery.ErrConflict), revision: modelRevision(revision),
		}, called)
	}
}

// modelRevision returns the model's form of a write's revision.
func modelRevision(revision int64) int64 {
	if revision == 0 {
		return -1
	}
	return revision
}

// write makes up a write of one key or of all, with or without conditions.
func (h *opHistory) write(seen [historyKeys]int64) (call, []Op) {
	var c call
	var ops []Op
	first, count := rand.IntN(historyKeys), 1+rand.IntN(2)*(historyKeys-1)
	for n := range count {
		ch := change{key: (first + n) % historyKeys}
		op := Op{Key: h.key(ch.key), Delete: rand.IntN(4) == 0}
		if !op.Delete {
			ch.value = int(h.value.Add(1))
			op.Value = []byte(strconv.Itoa(ch.value))
		}
		if rand.IntN(2) == 0 {
			op.If = new(seen[ch.key])
			ch.condition = op.If
		}
		c.changes, ops = append(c.changes, ch), append(ops, op)
	}
	return c, ops
}

// Writes and linearizable reads are linearizable while members are killed and paused.
func TestHistories(t *testing.T) {
	cluster := etcdtest.StartCluster(t, 3, "--unsafe-no-fsync", "--heartbeat-interval=20", "--election-timeout=200")
	var stores []*Store
	for range 3 {
		stores = append(stores, etcdtest.Must(New(etcdtest.Client(t, cluster.Endpoints()...), discovery.NewKeys("test"), Options{})))
	}
	done := make(chan error, 1)
	var checked atomic.Int64
	go func() { done <- recordHistories(t, stores, &checked) }()
	for n := 0; ; n++ {
		select {
		case err := <-done:
			if err != nil || checked.Load() < int64(*histories) {
				t.Errorf("%d histories are checked: %v", checked.Load(), err)
			}
			return
		case <-time.After(time.Second):
		}
		disturb(cluster, n)
	}
}

// recordHistories records histories and checks them, several at the same time.
func recordHistories(t *testing.T, stores []*Store, checked *atomic.Int64) error {
	var running errgroup.Group
	running.SetLimit(10)
	for n := range *histories {
		running.Go(func() error {
			h := &opHistory{name: fmt.Sprint("h", n), began: time.Now()}
			h.left.Store(int64(*operations))
			var clients sync.WaitGroup
			for client := range 6 {
				clients.Go(func() { h.run(t, client, stores[client%len(stores)]) })
			}
			clients.Wait()
			if r := porcupine.CheckOperationsTimeout(registers, h.all, time.Minute); r != porcupine.Ok {
				return fmt.Errorf("history %d of %d operations is not linearizable: %v", n, len(h.all), r)
			}
			if len(h.all) >= *operations {
				checked.Add(1)
			}
			return nil
		})
	}
	return running.Wait()
}

// disturb kills or pauses the leader for a moment, in turns.
func disturb(cluster *etcdtest.Cluster, n int) {
	leader := cluster.Leader()
	if n%2 == 0 {
		leader.Kill()
		defer cluster.Start()
	} else {
		leader.Pause()
		defer leader.Continue()
	}
	<-time.After(300 * time.Millisecond)
}
