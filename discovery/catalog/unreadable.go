package catalog

import (
	"log/slog"
	"maps"
	"slices"

	"disc/discovery"
	"disc/discovery/view"
)

// parse parses a key. An alien key, which does not follow disc's layout, is a KeyOther with
// the whole key as its id, so that it is distinct from others.
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

// splitAlien separates the changes of a view from alien keys, which it returns as records
// that cannot be read. It drops the key of a quarantine and orders on suspects, which are no part
// of the catalog.
func splitAlien(changes []view.Change) (known []view.Change, alien []discovery.BrokenRecord) {
	if !slices.ContainsFunc(changes, func(c view.Change) bool {
		return c.Key.Kind == discovery.KeyOther || c.Key.Kind == discovery.KeyQuarantine || c.Key.Kind == discovery.KeySuspectOrder
	}) {
		return changes, nil
	}
	known = make([]view.Change, 0, len(changes))
	for _, change := range changes {
		switch {
		case change.Key.Kind == discovery.KeyQuarantine, change.Key.Kind == discovery.KeySuspectOrder:
		case change.Key.Kind != discovery.KeyOther:
			known = append(known, change)
		case change.Key.ID != "" && change.Value != nil:
			alien = append(alien, discovery.BrokenRecord{Key: change.Key, Modified: change.Modified,
				Err: discovery.Errorf(discovery.ErrInvalid, "the key does not follow disc's layout")})
		}
	}
	return known, alien
}

// unreadable are the keys whose records cannot be read, each with the revision of that
// record. Each key is logged when it becomes unreadable.
type unreadable struct {
	log       *slog.Logger
	metrics   *metrics
	revisions map[discovery.Key]int64
}

// update records which of the changed keys cannot be read.
func (u *unreadable) update(changes []view.Change, broken []discovery.BrokenRecord) {
	if len(u.revisions) == 0 && len(broken) == 0 {
		return
	}
	before := map[discovery.Key]bool{}
	for _, change := range changes {
		if _, ok := u.revisions[change.Key]; ok {
			before[change.Key] = true
			delete(u.revisions, change.Key)
		}
	}
	for _, b := range broken {
		if _, again := u.revisions[b.Key]; !again && !before[b.Key] {
			u.log.Warn("record cannot be read; leaving it out", "error", b)
		}
		u.revisions[b.Key] = b.Modified
	}
	u.metrics.setBroken(len(u.revisions))
}

// replace replaces the entries of the listed keys by those that cannot be read.
func (u *unreadable) replace(broken []discovery.BrokenRecord, listed func(discovery.Key) bool) {
	before := maps.Clone(u.revisions)
	u.retain(func(key discovery.Key) bool { return !listed(key) })
	for _, b := range broken {
		if _, again := before[b.Key]; !again {
			u.log.Warn("record cannot be read; leaving it out", "error", b)
		}
		u.revisions[b.Key] = b.Modified
	}
	u.metrics.setBroken(len(u.revisions))
}

// retain drops all entries but those of the keys that retained reports.
func (u *unreadable) retain(retained func(discovery.Key) bool) {
	maps.DeleteFunc(u.revisions, func(key discovery.Key, _ int64) bool { return !retained(key) })
	u.metrics.setBroken(len(u.revisions))
}
