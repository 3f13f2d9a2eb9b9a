package kv

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

var (
	histories  = flag.Int("kv.histories", etcdtest.Length(8, 50), "number of histories to check")
	operations = flag.Int("kv.operations", 500, "least number of operations of each history")
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

// call is a write of some keys or, without changes, a read of some; answer is its result.
type call struct {
	reads   []int
	changes []change
}

type answer struct {
	unknown, conflict bool
	revision          int64 // of the write
	read              [historyKeys]cell
}

// cells is the model's state: a few keys, and the revision of the last write that is known.
type cells struct {
	keys [historyKeys]cell
	last int64
}

// registers is the model: keys are read together and written together, and each write has a
// higher revision than all before.
var registers = porcupine.Model{
	Init: func() any { return cells{} },
	Step: func(state, input, output any) (bool, any) {
		s, c, a := state.(cells), input.(call), output.(answer)
		if c.changes == nil {
			for _, n := range c.reads {
				is, read := s.keys[n], a.read[n]
				if is.value != read.value || is.revision != read.revision && (is.revision >= 0 || read.revision <= 0) {
					return false, s
				}
				s.keys[n].revision = read.revision // a read reveals an unknown revision
			}
			return true, s
		}
		holds := true
		for _, ch := range c.changes {
			holds = holds && (ch.condition == nil || *ch.condition == s.keys[ch.key].revision)
		}
		if !holds {
			return a.unknown || a.conflict, s
		}
		least := s.last // the write's least revision
		for _, ch := range c.changes {
			if ch.value != 0 || s.keys[ch.key].revision != 0 {
				least = s.last + 1
			}
			s.keys[ch.key] = cell{ch.value, a.revision}
			if ch.value == 0 {
				s.keys[ch.key].revision = 0
			}
		}
		if a.revision > 0 {
			if a.revision < least {
				return false, s
			}
			s.last = a.revision
		}
		return !a.conflict, s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// pacemaker asks for a fault after each faultInterval operations of all histories, so that a
// history has as many on a slow machine as on a fast one.
type pacemaker struct {
	made  atomic.Int64
	fault chan struct{} // size one
}

const faultInterval = 1500

func (p *pacemaker) count() {
	if p.made.Add(1)%faultInterval == 0 {
		select {
		case p.fault <- struct{}{}:
		default: // one is on its way
		}
	}
}

// opHistory records the concurrent operations of several clients.
type opHistory struct {
	name  string
	began time.Time
	pace  *pacemaker
	left  atomic.Int64 // operations still to be recorded
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
	h.left.Add(-1)
	h.pace.count()
}

// run is one client: it reads, and writes with conditions on what it has seen.
func (h *opHistory) run(t *testing.T, client int, s *Store) {
	var seen [historyKeys]int64
	for h.left.Load() > 0 {
		called := h.now()
		if rand.IntN(2) == 0 {
			reads := rand.Perm(historyKeys)[:1+rand.IntN(2)]
			read, err := h.read(t.Context(), s, reads)
			if err != nil {
				continue // nothing was read
			}
			for _, n := range reads {
				seen[n] = read[n].revision
			}
			h.add(client, call{reads: reads}, answer{read: read}, called)
			continue
		}
		c, ops := h.write(seen)
		revision, err := s.Write(t.Context(), ops...)
		if err != nil && !errors.Is(err, discovery.ErrConflict) && !errors.Is(err, ErrOutcomeUnknown) {
			continue // nothing was written
		}
		h.add(client, c, answer{
			unknown: errors.Is(err, ErrOutcomeUnknown), conflict: errors.Is(err, discovery.ErrConflict), revision: modelRevision(revision),
		}, called)
	}
}

// read reads one key, or several together.
func (h *opHistory) read(ctx context.Context, s *Store, keys []int) (read [historyKeys]cell, err error) {
	set := func(key int, item Item) {
		value, _ := strconv.Atoi(string(item.Value))
		read[key] = cell{value, item.Revision}
	}
	if len(keys) == 1 {
		item, _, err := s.Get(ctx, h.key(keys[0]), Read{Linearizable: true})
		if errors.Is(err, discovery.ErrNotFound) {
			err = nil
		}
		set(keys[0], item)
		return read, err
	}
	names := make([]string, len(keys))
	for n, key := range keys {
		names[n] = h.key(key)
	}
	items, _, err := s.GetMany(ctx, names, Read{Linearizable: true})
	if err != nil {
		return read, err
	}
	for item := range items {
		set(keys[slices.Index(names, item.Key)], item)
	}
	return read, nil
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

// settle finds out from etcd's own history which of the writes with an unknown outcome were
// made, and at which revision. A few dozen unknown writes could keep the check busy for hours,
// since each may come anywhere or nowhere. Only deletions, which have no value to be
// recognized by, stay unknown.
func (h *opHistory) settle(t *testing.T, s *Store) error {
	made, err := h.revisions(t, s)
	if err != nil {
		return err
	}
	settled := h.all[:0]
	for _, o := range h.all {
		a := o.Output.(answer)
		if value := o.Input.(call).written(); a.unknown && value != 0 {
			if made[value] == 0 {
				continue
			}
			o.Output = answer{revision: made[value]}
		}
		settled = append(settled, o)
	}
	h.all = settled
	return nil
}

// written returns a value that the call writes; 0: it only deletes or reads.
func (c call) written() int {
	for _, ch := range c.changes {
		if ch.value != 0 {
			return ch.value
		}
	}
	return 0
}

// revisions returns the revision of each value that was written.
func (h *opHistory) revisions(t *testing.T, s *Store) (map[int]int64, error) {
	const end = "end"
	prefix := s.prefix + h.name + "/"
	for {
		if _, err := s.client.Put(t.Context(), prefix, end); err == nil {
			break
		} else if t.Context().Err() != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	made := map[int]int64{}
	for r := range s.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := r.Err(); err != nil {
			return nil, err
		}
		for _, e := range r.Events {
			if string(e.Kv.Value) == end {
				return made, nil
			}
			if value, err := strconv.Atoi(string(e.Kv.Value)); err == nil {
				made[value] = e.Kv.ModRevision
			}
		}
	}
	return nil, errors.New("etcd's history ended before the mark")
}

// Writes and linearizable reads are linearizable while members are killed and paused.
func TestHistories(t *testing.T) {
	cluster := etcdtest.StartCluster(t, 3, "--unsafe-no-fsync", "--heartbeat-interval=20", "--election-timeout=200")
	var stores []*Store
	for range 3 {
		stores = append(stores, etcdtest.Must(New(etcdtest.Client(t, cluster.Endpoints()...), discovery.NewKeys("test"), Options{})))
	}
	done, pace := make(chan error, 1), &pacemaker{fault: make(chan struct{}, 1)}
	go func() { done <- checkHistories(t, stores, pace) }()
	for faults := 0; ; faults++ {
		select {
		case err := <-done:
			t.Logf("%d histories, %d operations, %d faults", *histories, pace.made.Load(), faults)
			if err != nil {
				t.Error(err)
			}
			return
		case <-pace.fault:
		}
		disturb(cluster, faults)
	}
}

// checkHistories records histories and checks them, several at the same time.
func checkHistories(t *testing.T, stores []*Store, pace *pacemaker) error {
	var running errgroup.Group
	running.SetLimit(10)
	for n := range *histories {
		running.Go(func() error {
			h := &opHistory{name: fmt.Sprint("h", n), began: time.Now(), pace: pace}
			h.left.Store(int64(*operations))
			var clients sync.WaitGroup
			for client := range 6 {
				clients.Go(func() { h.run(t, client, stores[client%len(stores)]) })
			}
			clients.Wait()
			if err := h.settle(t, stores[0]); err != nil {
				return err
			}
			if !porcupine.CheckOperations(registers, h.all) {
				return fmt.Errorf("history %d of %d operations is not linearizable", n, len(h.all))
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
