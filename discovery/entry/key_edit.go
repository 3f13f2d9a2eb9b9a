package entry

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"disc/discovery"
	"disc/discovery/view"
)

// current is an instance's keys as they were read, and as they are to be.
type current struct {
	keys                    discovery.Keys
	service, id             string
	agent, static, override document
	record                  *view.Record // the agent's
	entry                   *view.Entry
}

// document is one key.
type document struct {
	name              string
	value, next       []byte // nil: absent
	created, modified int64
	lease             int64
	fresh             bool // written even if the value is the same, for its lease
}

func (now *current) documents() []*document {
	return []*document{&now.agent, &now.static, &now.override}
}

// merge derives the entry from the values that were read.
func (now *current) merge() {
	service := now.snapshot(func(d *document) []byte { return d.value })
	now.entry, _ = service.Entry(now.id)
	now.record, _ = service.Record(now.id)
}

// after derives the entry from the values that are to be.
func (now *current) after() *view.Entry {
	e, ok := now.snapshot(func(d *document) []byte { return d.next }).Entry(now.id)
	if !ok {
		return nil
	}
	return e
}

func (now *current) snapshot(value func(*document) []byte) *view.Service {
	var changes []view.Change
	for _, d := range now.documents() {
		if v := value(d); v != nil {
			changes = append(changes, view.Change{Key: now.keys.Parse(d.name), Value: v, Created: d.created, Modified: d.modified, Lease: d.lease})
		}
	}
	s, _, _ := view.EmptySnapshot().Apply(0, changes)
	if service, ok := s.Service(now.service); ok {
		return service
	}
	return &view.Service{}
}

// revision is that of the newest of the keys, 0 when there is none.
func (now *current) revision() int64 {
	return max(now.agent.modified, now.static.modified, now.override.modified)
}

// set makes v the document's next value. Fields of the old value that this version
// does not know are kept.
func (d *document) set(v any, fresh bool) error {
	known, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", d.name, err)
	}
	d.next, d.fresh = known, fresh || d.lease != 0
	if d.value == nil {
		return nil
	}
	unknown, err := unknownFields(d.value, v)
	if err != nil || len(unknown) == 0 {
		return err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(known, &all); err != nil {
		return fmt.Errorf("encode %s: %w", d.name, err)
	}
	maps.Copy(all, unknown)
	d.next, err = json.Marshal(all)
	return err
}

func (d *document) changed() bool {
	return d.fresh && d.next != nil || (d.next == nil) != (d.value == nil) || !slices.Equal(d.next, d.value)
}

// unknownFields returns the fields of a JSON object that the type of v has not.
func unknownFields(object []byte, v any) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, fmt.Errorf("decode what is there: %w", err)
	}
	t := reflect.TypeOf(v)
	for n := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(n).Tag.Get("json"), ",")
		delete(fields, name)
	}
	return fields, nil
}
