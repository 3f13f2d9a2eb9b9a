package catalog

import (
	"iter"
	"maps"
	"slices"
	"sync"

	"disc/discovery"
	"disc/discovery/view"
)

// orders are the orders of operators on suspects, as etcd has them.
type orders struct {
	mu    sync.Mutex // Run writes, and others read
	known map[instanceKey]order
}

// order is an order on a suspect, and etcd's revision of it.
type order struct {
	discovery.SuspectOrder
	revision int64
	over     bool // it has no effect any more: the instance has returned or left since
}

// suspectOrders returns those of the changes that are orders on suspects.
func suspectOrders(changes []view.Change) []view.Change {
	isOrder := func(c view.Change) bool { return c.Key.Kind == discovery.KeySuspectOrder }
	first := slices.IndexFunc(changes, isOrder)
	if first < 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(changes[first:]), func(c view.Change) bool { return !isOrder(c) })
}

// applyOrders carries out orders on suspects that were written or have ended. An order is about an
// instance that is missing when it is written: one that vanishes later has been back meanwhile. An
// order that cannot be read does nothing, nor does one without a lease, which a copy of etcd key by
// key has left.
func (t *suspectTracker) applyOrders(changes []view.Change) {
	if t == nil {
		return
	}
	dropped, by := 0, ""
	for _, c := range changes {
		if o, ok := t.applyOrder(c); ok {
			dropped, by = dropped+1, o.By
		}
	}
	if dropped > 0 {
		t.metrics.suspectsEnded.WithLabelValues("operator").Add(float64(dropped))
		t.log.Warn("suspects are dropped by order of an operator", "dropped", dropped, "by", by)
	}
}

// applyOrder carries out an order, and reports whether that has dropped a suspect.
func (t *suspectTracker) applyOrder(c view.Change) (o discovery.SuspectOrder, dropped bool) {
	i := instanceKey{c.Key.Service, c.Key.ID}
	o = t.readOrder(c)
	missing := t.isMissing(i)
	if !t.orders.set(i, o, c, !missing) {
		return o, false // it was carried out
	}
	if keep := missing && o.Order == discovery.KeepSuspect; t.kept[i] || keep {
		t.setKept(i, keep)
	}
	return o, o.Order == discovery.DropSuspect && t.drop(i)
}

// readOrder returns the order that a change writes; the zero value if there is none, or none that counts.
func (t *suspectTracker) readOrder(c view.Change) discovery.SuspectOrder {
	if c.Value == nil {
		return discovery.SuspectOrder{}
	}
	o, err := discovery.DecodeSuspectOrder(c.Value)
	switch {
	case err != nil:
		t.log.Warn("order on a suspect cannot be read; leaving it out", "service", c.Key.Service, "id", c.Key.ID, "error", err)
		return discovery.SuspectOrder{}
	case c.Lease == 0:
		t.log.Warn("order on a suspect has no lease; leaving it out, since it is a copy of an old one", "service", c.Key.Service, "id", c.Key.ID)
		return discovery.SuspectOrder{}
	}
	return o
}

// endOrder ends the effect of an order, since its instance has returned or left. A later order has a
// new revision.
func (t *suspectTracker) endOrder(i instanceKey) {
	if t.kept[i] {
		t.setKept(i, false)
	}
	t.orders.end(i)
}

// endOrders ends the effect of the orders in a scope whose instances are not missing any more.
func (t *suspectTracker) endOrders(scope discovery.Scope) {
	for i := range t.orders.all() {
		if (scope == everything || scope.Service == i.service) && !t.isMissing(i) {
			t.endOrder(i)
		}
	}
}

// end marks an order as one without effect.
func (o *orders) end(i instanceKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if known, ok := o.known[i]; ok {
		known.over = true
		o.known[i] = known
	}
}

// set records an order, or with a deletion that there is none. It reports whether that is new.
func (o *orders) set(i instanceKey, given discovery.SuspectOrder, c view.Change, over bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	before, known := o.known[i]
	if c.Value == nil {
		delete(o.known, i)
		return known
	}
	if known && before.SuspectOrder == given && before.revision == c.Modified {
		return false
	}
	if o.known == nil {
		o.known = map[instanceKey]order{}
	}
	o.known[i] = order{given, c.Modified, over}
	return true
}

// replaceOrders replaces the orders of the listed keys by those of a list. When etcd has started over,
// as from a backup, the listed orders are of another time: they count as carried out.
func (t *suspectTracker) replaceOrders(listed []view.Change, contains func(discovery.Key) bool, startedOver bool) {
	if t == nil {
		return
	}
	present := map[discovery.Key]bool{}
	for _, c := range listed {
		present[c.Key] = true
	}
	for key, revision := range t.orderRevisions() {
		if contains(key) && (startedOver || !present[key]) {
			t.applyOrder(view.Change{Key: key, Modified: revision})
		}
	}
	if !startedOver {
		t.applyOrders(listed)
		return
	}
	for _, c := range listed {
		t.orders.set(instanceKey{c.Key.Service, c.Key.ID}, t.readOrder(c), c, true)
	}
}

// orderRevisions yields the keys of the known orders, and their revisions.
func (t *suspectTracker) orderRevisions() iter.Seq2[discovery.Key, int64] {
	return func(yield func(discovery.Key, int64) bool) {
		if t == nil {
			return
		}
		for i, o := range t.orders.all() {
			if !yield(discovery.Key{Kind: discovery.KeySuspectOrder, Service: i.service, ID: i.id}, o.revision) {
				return
			}
		}
	}
}

// all returns a copy of the orders.
func (o *orders) all() map[instanceKey]order {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.known)
}

// SuspectOrder returns the order of an operator on an instance of a service, as etcd has it; the zero
// value: there is none, or it has no effect any more, since the instance has been back.
func (c *Catalog) SuspectOrder(service, id string) discovery.SuspectOrder {
	if c.suspects == nil {
		return discovery.SuspectOrder{}
	}
	o := &c.suspects.orders
	o.mu.Lock()
	defer o.mu.Unlock()
	if known := o.known[instanceKey{discovery.FoldName(service), id}]; !known.over {
		return known.SuspectOrder
	}
	return discovery.SuspectOrder{}
}
