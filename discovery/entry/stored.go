package entry

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// Stored is what etcd has of an instance. Its revisions are those of the last write of a key; 0: there
// is no such key.
type Stored struct {
	Record, Override, Static int64
	Leaving                  bool   // the record is a tombstone, which stays for a moment
	Unreadable               error  // why a value cannot be read, the record rather than the others; nil: all can
	Key                      string // of the value that cannot be read

	Lease          clientv3.LeaseID // of the record; 0: none
	TTL, Remaining time.Duration    // of the lease; Remaining is 0 once it has ended, and TTL if it is not known
	LeaseErr       error            // why those are not known
}

// Stored reads what etcd has of an instance, and how long the lease of its record lasts.
func (e Editor) Stored(ctx context.Context, service, id string) (Stored, error) {
	draft, err := e.read(ctx, service, id)
	if err != nil {
		return Stored{}, err
	}
	s := Stored{Record: draft.agent.modified, Override: draft.override.modified, Static: draft.static.modified, Lease: clientv3.LeaseID(draft.agent.lease)}
	if draft.override.value != nil {
		_, err := discovery.DecodeOverride(draft.override.value)
		s.unreadable(draft.override.key, "override", err)
	}
	if draft.static.value != nil {
		_, err := discovery.DecodeInstance(draft.static.value)
		s.unreadable(draft.static.key, "static entry", err)
	}
	if draft.agent.value != nil {
		record, err := discovery.DecodeInstance(draft.agent.value)
		s.Leaving = record.Leaving
		s.unreadable(draft.agent.key, "record", err)
	}
	if s.Lease == 0 {
		return s, nil
	}
	lease, err := e.Client.TimeToLive(ctx, s.Lease)
	if err != nil {
		s.LeaseErr = fmt.Errorf("ask for the lease of %s/%s: %w", service, id, err)
		return s, nil
	}
	if lease.TTL > 0 {
		s.TTL, s.Remaining = time.Duration(lease.GrantedTTL)*time.Second, time.Duration(lease.TTL)*time.Second
	}
	return s, nil
}

// unreadable notes that a value cannot be read; nil: it can.
func (s *Stored) unreadable(key, what string, err error) {
	if err != nil {
		s.Key, s.Unreadable = key, fmt.Errorf("%s: %w", what, err)
	}
}
