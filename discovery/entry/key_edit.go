package entry

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/view"
)

// instanceDraft is an instance's keys as they were read, and as they will be written.
type instanceDraft struct {
	keys                    discovery.Keys
	service, id             string
	agent, static, override keyEdit
	record                  *view.Record // the agent's
	entry                   *view.Entry
}

// keyEdit is the value of one key, and its next value.
type keyEdit struct {
	key               string
	value, next       []byte // nil: absent
	created, modified int64
	lease             int64
	forced            bool // written even if the value is the same, for its lease
	unknown           bool // next has fields that this version does not know
	condition         condition
}

// condition is what a write requires of a key.
type condition int

const (
	unchanged condition = iota // the key is as it was read
	exists                     // the key exists under the same lease, whatever its value
	anyState                   // nothing
)

func (draft *instanceDraft) keyEdits() []*keyEdit {
	return []*keyEdit{&draft.agent, &draft.static, &draft.override}
}

// merge derives the entry and the record from the values that were read.
func (draft *instanceDraft) merge() {
	service := draft.snapshot(func(k *keyEdit) []byte { return k.value })
	draft.entry, _ = service.Entry(draft.id)
	draft.record, _ = service.Record(draft.id)
}

// after derives the entry from the next values.
func (draft *instanceDraft) after() *view.Entry {
	e, ok := draft.snapshot(func(k *keyEdit) []byte { return k.next }).Entry(draft.id)
	if !ok {
		return nil
	}
	return e
}

func (draft *instanceDraft) snapshot(value func(*keyEdit) []byte) *view.Service {
	var changes []view.Change
	for _, k := range draft.keyEdits() {
		if v := value(k); v != nil {
			changes = append(changes, view.Change{Key: draft.keys.Parse(k.key), Value: v, Created: k.created, Modified: k.modified, Lease: k.lease})
		}
	}
	s, _, _ := view.EmptySnapshot().Apply(0, changes)
	if service, ok := s.Service(draft.service); ok {
		return service
	}
	return &view.Service{}
}

// changed reports whether any key is to be written.
func (draft *instanceDraft) changed() bool {
	return slices.ContainsFunc(draft.keyEdits(), (*keyEdit).changed)
}

// conditions returns what the write requires of the keys.
func (draft *instanceDraft) conditions() []clientv3.Cmp {
	var all []clientv3.Cmp
	for _, k := range draft.keyEdits() {
		switch k.condition {
		case unchanged:
			all = append(all, clientv3.Compare(clientv3.ModRevision(k.key), "=", k.modified))
		case exists:
			// A deregistration overwrites the record with a tombstone, which has its own lease.
			all = append(all, clientv3.Compare(clientv3.CreateRevision(k.key), ">", 0),
				clientv3.Compare(clientv3.LeaseValue(k.key), "=", k.lease))
		}
	}
	return all
}

// ops returns the writes of the keys that change. lease is that of the static entry.
func (draft *instanceDraft) ops(lease clientv3.LeaseID) []clientv3.Op {
	var all []clientv3.Op
	for _, k := range draft.keyEdits() {
		switch {
		case !k.changed():
		case k.next == nil:
			all = append(all, clientv3.OpDelete(k.key))
		case k == &draft.static:
			all = append(all, clientv3.OpPut(k.key, string(k.next), clientv3.WithLease(lease)))
		default:
			all = append(all, clientv3.OpPut(k.key, string(k.next)))
		}
	}
	return all
}

// revision returns the revision of the newest of the keys, 0 if there is none.
func (draft *instanceDraft) revision() int64 {
	return max(draft.agent.modified, draft.static.modified, draft.override.modified)
}

// set makes v the next value, and keeps the fields of the old value that this version does
// not know. forced writes it even if it is the same.
func (k *keyEdit) set(v any, forced bool) error {
	known, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", k.key, err)
	}
	k.next, k.forced, k.unknown = known, forced || k.lease != 0, false
	if k.value == nil {
		return nil
	}
	unknown, err := unknownFields(k.value, v)
	if err != nil || len(unknown) == 0 {
		return err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(known, &all); err != nil {
		return fmt.Errorf("encode %s: %w", k.key, err)
	}
	maps.Copy(all, unknown)
	k.unknown = true
	k.next, err = json.Marshal(all)
	return err
}

func (k *keyEdit) changed() bool {
	return k.forced && k.next != nil || (k.next == nil) != (k.value == nil) || !slices.Equal(k.next, k.value)
}

// unknownFields returns the fields of a JSON object that the type of v lacks.
func unknownFields(object []byte, v any) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, fmt.Errorf("decode the present value: %w", err)
	}
	t := reflect.TypeOf(v)
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		delete(fields, name)
	}
	return fields, nil
}
