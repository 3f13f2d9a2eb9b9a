package view

import "disc/discovery"

// mergedInstance is the state of one instance id in etcd, under one to four keys, and the
// entry that is merged from it.
type mergedInstance struct {
	id       string
	agent    record
	missing  missingState // whether agent is gone from etcd
	static   record
	override *override
	load     *load
	entry    *Entry // nil: not shown
	decoded  *Entry // the entry around the record that was decoded last, for merge to use; else nil
}

// record is a [Record] that shares its instance with an entry; its instance is nil when
// there is no record.
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

// empty reports whether etcd has nothing of the instance, except a load report.
func (m *mergedInstance) empty() bool {
	return m.agent.Instance == nil && m.static.Instance == nil && m.override == nil
}

// leaving reports whether the instance is not shown and has a tombstone.
func (m *mergedInstance) leaving() bool {
	return m.entry == nil && m.agent.Instance != nil && m.agent.Leaving
}

// inEtcd reports whether etcd has an agent's record.
func (m *mergedInstance) inEtcd() bool { return m.agent.Instance != nil && m.missing == notMissing }

// present reports whether the instance is shown or has a tombstone.
func (m *mergedInstance) present() bool { return m.entry != nil || m.leaving() }

// applyChange applies the change of one of the instance's keys. A value that cannot be
// decoded counts as deleted. Fields equal to those of like, an instance of the same
// service, share its memory.
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

// decodeRecord decodes the value of a change into the instance of a new entry. It returns
// the zero record for a deletion.
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
		return record{}, nil, discovery.Errorf(discovery.ErrInvalid, "the record is of %s/%s: it is under the key of another", i.Service, i.ID)
	}
	return record{i, c.Created, c.Modified, c.Lease}, e, nil
}

// merge derives the entry. The agent's record takes precedence over the static entry,
// unless it is a tombstone or missing, and the override is applied to either.
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
		e = &Entry{Instance: *base.Instance} // an entry that readers have does not change
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
		if m.load != nil && m.load.lease == m.agent.Lease { // by the agent of the record
			e.Utilization = m.load.Utilization
		}
	}
	m.id, m.entry = e.ID, e // the key's id would keep the whole key in memory
}
