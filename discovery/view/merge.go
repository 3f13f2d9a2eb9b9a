package view

import "disc/discovery"

// slot is all that etcd holds of one instance id, which is one to four keys, and
// what they make together.
type slot struct {
	id       string
	agent    record
	vanished vanishing // what agent is when etcd has it no more
	static   record
	override *override
	load     *load
	entry    *Entry // nil when nothing of it is shown
	read     *Entry // around the record that was read last, for merge to show; else nil
}

// record is a [Record] that shares its instance; nil when there is none.
type record struct {
	*discovery.Instance
	Created, Modified, Lease int64
}

type override struct {
	discovery.Override
	modified int64
}

type load struct {
	discovery.LoadReport
	modified, lease int64
}

// bare reports whether there is nothing of an instance, but for a load report.
func (at *slot) bare() bool {
	return at.agent.Instance == nil && at.static.Instance == nil && at.override == nil
}

// leaving reports whether the slot is not shown because its agent said goodbye.
func (at *slot) leaving() bool {
	return at.entry == nil && at.agent.Instance != nil && at.agent.Leaving
}

// stands reports whether etcd has an agent's record.
func (at *slot) stands() bool { return at.agent.Instance != nil && at.vanished == standing }

// present reports whether an instance is there or was until a moment ago.
func (at *slot) present() bool { return at.entry != nil || at.leaving() }

// change takes over the new value of one of the slot's keys. A value that cannot be
// read counts as none. What it shares with like, an instance of the same service, is
// kept in memory once.
func (at *slot) change(c Change, like *discovery.Instance) (err error) {
	switch c.Key.Kind {
	case discovery.KeyInstance:
		at.agent, at.read, err = decodeRecord(c, like)
		at.vanished = standing
		if c.Suspect && err == nil {
			at.vanished = suspect
		}
	case discovery.KeyStatic:
		at.static, at.read, err = decodeRecord(c, like)
	case discovery.KeyOverride:
		at.override = nil
		if c.Value == nil {
			return nil
		}
		var o discovery.Override
		if o, err = discovery.DecodeOverride(c.Value); err == nil {
			at.override = &override{o, c.Modified}
		}
	case discovery.KeyLoad:
		at.load = nil
		if c.Value == nil {
			return nil
		}
		var l discovery.LoadReport
		if l, err = discovery.DecodeLoadReport(c.Value); err == nil {
			at.load = &load{l, c.Modified, c.Lease}
		}
	}
	return err
}

// decodeRecord reads the value of a change, as the instance of an entry; the zero record
// for a deletion.
func decodeRecord(c Change, like *discovery.Instance) (record, *Entry, error) {
	if c.Value == nil {
		return record{}, nil, nil
	}
	e := new(Entry)
	i := &e.Instance
	if err := discovery.DecodeInstanceLike(c.Value, i, like); err != nil {
		return record{}, nil, err
	}
	if discovery.FoldName(i.Service) != c.Key.Service || i.ID != c.Key.ID {
		return record{}, nil, discovery.Errorf(discovery.ErrInvalid, "the record says %s/%s: it lies under another's key", i.Service, i.ID)
	}
	return record{i, c.Created, c.Modified, c.Lease}, e, nil
}

// merge derives the entry: the agent's record wins over the static entry, and the
// override is laid over either. An agent's record that is leaving or has vanished
// uncovers the static entry.
func (at *slot) merge() {
	e := at.read
	at.entry, at.read = nil, nil
	if at.vanished != standing && at.static.Instance != nil {
		at.agent, at.vanished = record{}, standing
	}
	base, source := &at.agent, SourceAgent
	if base.Instance == nil || base.Leaving {
		base, source = &at.static, SourceStatic
	}
	if base.Instance == nil {
		return
	}
	if e == nil || base.Instance != &e.Instance || at.override != nil {
		e = &Entry{Instance: *base.Instance} // what is shown already does not change
	}
	e.State, e.Source, e.Revision, e.Suspect = discovery.Up, source, base.Modified, at.vanished == suspect
	if o := at.override; o != nil {
		e.Instance, e.State = o.Apply(*base.Instance)
		e.Override, e.Revision = &o.Override, max(e.Revision, o.modified)
	} else {
		base.Instance = &e.Instance // one copy for both: most instances have no override
	}
	if source == SourceAgent {
		e.Shadowed = at.static.Instance
		if at.load != nil && at.load.lease == at.agent.Lease { // of the agent whose record it is
			e.Utilization = at.load.Utilization
		}
	}
	at.id, at.entry = e.ID, e // the key's id would keep the whole key in memory
}
