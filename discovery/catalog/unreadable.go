package catalog

import (
	"log/slog"
	"maps"
	"slices"

	"disc/discovery"
	"disc/discovery/view"
)

// parse takes a key apart. An alien key, which is not of the layout, is a KeyOther
// with all of the key as its id, so that it can be told from others.
func parse(keys discovery.Keys, raw []byte) discovery.Key {
	name := string(raw)
	key := keys.Parse(name)
	if key.Kind == discovery.KeyOther {
		key.ID = name
	}
	return key
}

// nameOf is the reverse of parse.
func nameOf(keys discovery.Keys, key discovery.Key) string {
	if key.Kind == discovery.KeyOther {
		return key.ID
	}
	return keys.Name(key)
}

// splitAlien returns the changes that make a view, and the alien keys as records that
// cannot be read.
func splitAlien(changes []view.Change) (known []view.Change, alien []discovery.BrokenRecord) {
	if !slices.ContainsFunc(changes, func(c view.Change) bool { return c.Key.Kind == discovery.KeyOther }) {
		return changes, nil
	}
	known = make([]view.Change, 0, len(changes))
	for _, change := range changes {
		switch {
		case change.Key.Kind != discovery.KeyOther:
			known = append(known, change)
		case change.Key.ID != "" && change.Value != nil:
			alien = append(alien, discovery.BrokenRecord{Key: change.Key, Modified: change.Modified,
				Err: discovery.Errorf(discovery.ErrInvalid, "the key is not of disc's layout")})
		}
	}
	return known, alien
}

// unreadable are the keys that cannot be read, each with the revision at which it was
// found so. It is logged when it begins to ail.
type unreadable struct {
	log       *slog.Logger
	metrics   *metrics
	revisions map[discovery.Key]int64
}

// update takes in changes and those of them that cannot be read.
func (a *unreadable) update(changes []view.Change, broken []discovery.BrokenRecord) {
	if len(a.revisions) == 0 && len(broken) == 0 {
		return
	}
	was := map[discovery.Key]bool{}
	for _, change := range changes {
		if _, ok := a.revisions[change.Key]; ok {
			was[change.Key] = true
			delete(a.revisions, change.Key)
		}
	}
	for _, b := range broken {
		if _, again := a.revisions[b.Key]; !again && !was[b.Key] {
			a.log.Warn("record cannot be read; leaving it out", "error", b)
		}
		a.revisions[b.Key] = b.Modified
	}
	a.metrics.setBroken(len(a.revisions))
}

// replace takes in all keys that cannot be read of a list, in place of what it had of
// what was listed.
func (a *unreadable) replace(broken []discovery.BrokenRecord, listed func(discovery.Key) bool) {
	before := maps.Clone(a.revisions)
	a.retain(func(key discovery.Key) bool { return !listed(key) })
	for _, b := range broken {
		if _, again := before[b.Key]; !again {
			a.log.Warn("record cannot be read; leaving it out", "error", b)
		}
		a.revisions[b.Key] = b.Modified
	}
	a.metrics.setBroken(len(a.revisions))
}

// retain forgets all but some keys.
func (a *unreadable) retain(stays func(discovery.Key) bool) {
	maps.DeleteFunc(a.revisions, func(key discovery.Key, _ int64) bool { return !stays(key) })
	a.metrics.setBroken(len(a.revisions))
}
