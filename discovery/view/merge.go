package view

import "disc/discovery"

// mergedInstance is all that etcd holds of one instance id, which is one to four keys, and
// what they make together.
type mergedInstance struct {
	id       string
	agent    record
	missing  missingState // what agent is when etcd has it no more
	static   record
	override *override
	load     *load
	entry    *Entry // nil when nothing of it is shown
	decoded  *Entry // around the record that was read last, for merge to show; else nil
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

// empty reports whether there is nothing of an instance, but for a load report.
func (m *mergedInstance) empty() bool {
	return m.agent.Instance == nil && m.static.Instance == nil && m.override == nil
}

// leaving reports whether the slot is not shown because its agent said goodbye.
func (m *mergedInstance) leaving() bool {
	return m.entry == nil && m.agent.Instance != nil && m.agent.Leaving
}

// inEtcd reports whether etcd has an agent's record.
func (m *mergedInstance) inEtcd() bool { return m.agent.Instance != nil && m.missing == notMissing }

// present reports whether an instance is there or was until a moment ago.
func (m *mergedInstance) present() bool { return m.entry != nil || m.leaving() }

// applyChange takes over the new value of one of the slot's keys. A value that cannot be
// read counts as none. What it shares with like, an instance of the same service, is
// kept in memory once.
func (m *mergedInstance) applyChange(c Change, like *discovery.Instance) (err error) {
	switch c.Key.Kind {
	case discovery.KeyInstance:
		m.agent, m.decoded, err = decodeRecord(c, like)
		m.missing = notMissing
		if c.Suspect && err == nil {
			m.missing = missingSuspect
		}
	case discovery.KeyStatic:
		m.static, m.decoded, err = decodeRecord(c, like)
	case discovery.KeyOverride:
		m.override = nil
		if c.Value == nil {
			return nil
		}
		var o discovery.Override
		if o, err = discovery.DecodeOverride(c.Value); err == nil {
			m.override = &override{o, c.Modified}
		}
	case discovery.KeyLoad:
		m.load = nil
		if c.Value == nil {
			return nil
		}
		var l discovery.LoadReport
		if l, err = discovery.DecodeLoadReport(c.Value); err == nil {
			m.load = &load{l, c.Modified, c.Lease}
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
func (m *mergedInstance) merge() {
	e := m.decoded
	m.entry, m.decoded = nil, nil
	if m.missing != notMissing && m.static.Instance != nil {
		m.agent, m.missing = record{}, notMissing
	}
	base, source := &m.agent, SourceAgent
	if base.Instance == nil || base.Leaving {
		base, source = &m.static, SourceStatic
	}
	if base.Instance == nil {
		return
	}
	if e == nil || base.Instance != &e.Instance || m.override != nil {
		e = &Entry{Instance: *base.Instance} // what is shown already does not change
	}
	e.State, e.Source, e.Revision, e.Suspect = discovery.Up, source, base.Modified, m.missing == missingSuspect
	if o := m.override; o != nil {
		e.Instance, e.State = o.Apply(*base.Instance)
		e.Override, e.Revision = &o.Override, max(e.Revision, o.modified)
	} else {
		base.Instance = &e.Instance // one copy for both: most instances have no override
	}
	if source == SourceAgent {
		e.Shadowed = m.static.Instance
		if m.load != nil && m.load.lease == m.agent.Lease { // of the agent whose record it is
			e.Utilization = m.load.Utilization
		}
	}
	m.id, m.entry = e.ID, e // the key's id would keep the whole key in memory
}
