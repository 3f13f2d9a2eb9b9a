package catalog

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/changelog"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// fleet is a recorded fleet: it changes at random, and knows by itself what each change shows.
type fleet struct {
	f         *fixture
	random    *rand.Rand
	instances map[string]*member // by service/id
	touched   map[string]bool    // the members that were written
	happened  []string           // the changes that readers see, as line writes them
}

// member is an instance of a recorded fleet.
type member struct {
	service, id string
	record      *discovery.Instance // nil: there is none that can be read
	override    *discovery.Override
	lease       clientv3.LeaseID
}

// shown returns what readers see of a member; nil: nothing.
func (m *member) shown() map[string]string {
	if m.record == nil || m.record.Leaving {
		return nil
	}
	s := map[string]string{
		"address": fmt.Sprintf("%s:%d", m.record.Address, m.record.Port), "zone": m.record.Zone,
		"status": string(m.record.Status), "state": "up", "weight": "1", "override": "",
	}
	if m.override != nil {
		s["state"], s["weight"] = string(m.override.State), strconv.Itoa(*m.override.Weight)
		s["override"] = fmt.Sprintf("state=%s weight=%d", m.override.State, *m.override.Weight)
	}
	return s
}

// unremarkable are the values that the arrival of an instance does not tell.
var unremarkable = map[string]string{"state": "up", "weight": "1", "override": "", "zone": ""}

// line describes a change: what happened, at which revision, and the values of the fields now.
func line(revision int64, kind discovery.ChangeKind, name string, reason discovery.ChangeReason, fields map[string]string) string {
	var parts []string
	for field, value := range fields {
		parts = append(parts, field+"="+value)
	}
	slices.Sort(parts)
	return fmt.Sprintf("%d %s %s %s %s", revision, kind, name, reason, strings.Join(parts, " "))
}

// note records a change of a member that was shown in another way before.
func (w *fleet) note(m *member, before map[string]string, revision int64, reason discovery.ChangeReason) {
	after, name := m.shown(), m.service+"/"+m.id
	w.touched[name] = true
	fields := map[string]string{}
	for field, value := range after {
		if before[field] != value {
			fields[field] = value
		}
	}
	switch {
	case before == nil && after == nil, before != nil && after != nil && len(fields) == 0:
	case before == nil:
		for field, usual := range unremarkable {
			if fields[field] == usual {
				delete(fields, field)
			}
		}
		w.happened = append(w.happened, line(revision, discovery.ChangeAdded, name, discovery.ReasonRegistered, fields))
	case after == nil:
		w.happened = append(w.happened, line(revision, discovery.ChangeGone, name, reason, nil))
	default:
		w.happened = append(w.happened, line(revision, discovery.ChangeChanged, name, reason, fields))
	}
}

// step changes one member or, by the end of a lease, several.
func (w *fleet) step() {
	m := w.pick()
	before := m.shown()
	key, override := keys.Instance(m.service, m.id), keys.Override(m.service, m.id)
	switch w.random.IntN(10) {
	default: // registered anew, moved to another port or zone
		r := w.newRecord(m)
		reason := discovery.ReasonEdited
		if m.record != nil && !m.record.Leaving {
			r.Status = m.record.Status
		}
		w.write(m, r, before, reason)
	case 3, 4: // a check changes the status
		if m.record == nil || m.record.Leaving {
			return
		}
		r := *m.record
		r.Status = []discovery.Status{discovery.Passing, discovery.Critical}[w.random.IntN(2)]
		w.write(m, &r, before, discovery.ReasonCheck)
	case 5: // an operator
		weight := 2 + w.random.IntN(3)
		m.override = &discovery.Override{State: []discovery.State{discovery.Up, discovery.Drain}[w.random.IntN(2)], Weight: &weight}
		w.note(m, before, w.f.put(override, string(m.override.Encode())), discovery.ReasonOverride)
	case 6:
		m.override = nil
		w.note(m, before, w.f.remove(override), discovery.ReasonOverride)
	case 7: // a goodbye
		if m.record == nil {
			return
		}
		r := *m.record
		r.Leaving = true
		w.write(m, &r, before, discovery.ReasonLeft)
	case 8:
		reason := discovery.ReasonRemoved
		if w.random.IntN(2) == 0 {
			w.end(m.lease)
			return
		}
		if m.lease != 0 {
			reason = discovery.ReasonExpired // the agent has no record of its own
		}
		m.record, m.lease = nil, 0
		w.note(m, before, w.f.remove(key), reason)
	case 9: // written as it is, and what cannot be read
		if m.record != nil && w.random.IntN(2) == 0 {
			w.write(m, m.record, before, discovery.ReasonEdited)
			return
		}
		m.record, m.lease = nil, 0
		w.note(m, before, w.f.put(key, "junk"), discovery.ReasonUnreadable)
	}
}

func (w *fleet) pick() *member {
	service, id := fmt.Sprint("s", w.random.IntN(3)), fmt.Sprint("i", w.random.IntN(5))
	m, ok := w.instances[service+"/"+id]
	if !ok {
		m = &member{service: service, id: id}
		w.instances[service+"/"+id] = m
	}
	return m
}

func (w *fleet) newRecord(m *member) *discovery.Instance {
	return &discovery.Instance{
		Service: m.service, ID: m.id, Node: "n", Owner: "o", Run: "r", Address: "10.0.0.5", Port: 1 + w.random.IntN(9),
		Zone: fmt.Sprint("z", w.random.IntN(2)), Weight: 1, Slots: 1, Status: discovery.Passing,
	}
}

// write writes the record of a member, under a lease of its own every other time.
func (w *fleet) write(m *member, r *discovery.Instance, before map[string]string, reason discovery.ChangeReason) {
	var options []clientv3.OpOption
	m.record, m.lease = r, 0
	if w.random.IntN(2) == 0 {
		m.lease = etcdtest.Must(w.f.etcd.Grant(w.f.ctx(), 3600)).ID
		options = append(options, clientv3.WithLease(m.lease))
	}
	written := etcdtest.Must(w.f.etcd.Put(w.f.ctx(), keys.Instance(m.service, m.id), string(r.Encode()), options...))
	w.note(m, before, written.Header.Revision, reason)
}

// end ends a lease.
func (w *fleet) end(lease clientv3.LeaseID) {
	if lease == 0 {
		return
	}
	ended := etcdtest.Must(w.f.etcd.Revoke(w.f.ctx(), lease))
	for _, m := range w.instances {
		if before := m.shown(); m.lease == lease {
			left := m.record != nil && m.record.Leaving
			if m.record, m.lease = nil, 0; !left {
				w.note(m, before, ended.Header.Revision, discovery.ReasonExpired)
			}
		}
	}
}

// state returns what readers see of all members.
func (w *fleet) state() map[string]map[string]string {
	all := map[string]map[string]string{}
	for name, m := range w.instances {
		if shown := m.shown(); shown != nil {
			all[name] = shown
		}
	}
	return all
}

// settle waits until the catalog has all changes.
func (w *fleet) settle() { w.f.reached(w.f.put(keys.Node("mark", "mark"), `{"node":"mark"}`)) }

// changesAfter returns the changes of the log after a cursor.
func (f *fixture) changesAfter(cursor string) changelog.Page {
	f.t.Helper()
	return etcdtest.Must(f.options.Changes.Read(changelog.Query{After: cursor}))
}

// lines returns changes of instances as line writes them.
func lines(changes []discovery.Change) (all []string) {
	for _, c := range changes {
		if c.ID == "" {
			continue
		}
		fields := map[string]string{}
		for _, field := range c.Fields {
			fields[field.Field] = field.To
		}
		all = append(all, line(c.Revision, c.Change, c.Service+"/"+c.ID, c.Reason, fields))
	}
	return all
}

// The log holds what happened to a recorded fleet, once each, and nothing else. After a gap it holds
// what leads from the state before to the state after, and says that it was found by comparing.
func TestChangesOfARecordedFleet(t *testing.T) {
	t.Parallel()
	f, link := linked(t, Options{Life: anyLife, Changes: changelog.New(16 << 20)})
	seed := rand.Uint64()
	t.Log("seed", seed)
	w := &fleet{f: f, random: rand.New(rand.NewPCG(seed, 0)), instances: map[string]*member{}}
	f.settled()
	for round := range 6 {
		from := f.changesAfter("").End
		w.happened, w.touched = nil, map[string]bool{}
		before := w.state()
		gap := round%2 == 1
		if gap {
			link.Freeze()
		}
		for range 60 {
			w.step()
		}
		if gap {
			if _, err := f.etcd.Compact(context.Background(), f.put(keys.Node("mark", "mark"), `{"node":"mark"}`)); err != nil {
				t.Fatal(err)
			}
			link.Cut()
			link.Mend()
		}
		w.settle()
		got := f.changesAfter(from).Changes
		if !gap && !gapped(got) {
			if is := lines(got); !slices.Equal(is, w.happened) {
				t.Fatalf("round %d: the log holds\n%s\nand what happened is\n%s", round, strings.Join(is, "\n"), strings.Join(w.happened, "\n"))
			}
			continue
		}
		if gap && slices.ContainsFunc(got, func(c discovery.Change) bool { return c.ID != "" && !c.Listed }) {
			t.Errorf("a change of the gap is not told from others: %+v", got)
		}
		checkGap(t, before, w.state(), w.touched, got)
	}
	retrytest.Eventually(t, "a resync after each of the 3 gaps", func() bool { return f.Health().Resyncs >= 3 })
}

// gapped reports whether there is a gap in some changes: a link was cut, or etcd did not answer the
// watch in time.
func gapped(changes []discovery.Change) bool {
	return slices.ContainsFunc(changes, func(c discovery.Change) bool { return c.Change == discovery.ChangeGap })
}

// checkGap checks that changes with a gap among them lead from one state to another.
func checkGap(t *testing.T, before, after map[string]map[string]string, touched map[string]bool, changes []discovery.Change) {
	t.Helper()
	first := slices.IndexFunc(changes, func(c discovery.Change) bool { return c.Change == discovery.ChangeGap })
	if first < 0 || changes[first].Since == nil {
		t.Fatalf("no gap is marked: %+v", changes)
	}
	state, changed, listed := before, map[string]bool{}, map[string]int{}
	for _, c := range changes {
		if c.Change == discovery.ChangeGap {
			clear(listed)
		}
		if c.ID == "" {
			continue
		}
		name := c.Service + "/" + c.ID
		changed[name] = true
		if c.Listed {
			listed[name]++
		}
		if listed[name] > 2 { // a record and an override
			t.Errorf("%s changed %d times in a gap", name, listed[name])
		}
		is := state[name]
		switch c.Change {
		case discovery.ChangeGone:
			delete(state, name)
			continue
		case discovery.ChangeAdded:
			is = maps.Clone(unremarkable)
		}
		for _, field := range c.Fields {
			if c.Change == discovery.ChangeChanged && is[field.Field] != field.From {
				t.Errorf("%s %s was %q, not %q", name, field.Field, is[field.Field], field.From)
			}
			is[field.Field] = field.To
		}
		state[name] = is
	}
	if fmt.Sprint(state) != fmt.Sprint(after) {
		t.Errorf("the changes lead to\n%v\nand not to\n%v\n%+v", state, after, changes)
	}
	for name := range changed {
		if !touched[name] {
			t.Errorf("%s has not changed", name)
		}
	}
}
