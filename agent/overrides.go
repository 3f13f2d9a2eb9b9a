package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/entry"
)

// overrideTimeout bounds one edit of an override.
const overrideTimeout = 5 * time.Second

// overrides edits overrides for the HTTP API.
type overrides struct{ editor entry.Editor }

// Patch implements httpapi.Overrides.
func (o overrides) Patch(ctx context.Context, service, id string, patch []byte) (discovery.Override, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, overrideTimeout)
	defer cancel()
	return o.editor.Patch(ctx, service, id, patch)
}

// Delete implements httpapi.Overrides.
func (o overrides) Delete(ctx context.Context, service, id string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, overrideTimeout)
	defer cancel()
	change, err := o.editor.Remove(ctx, service, id, entry.Targets{Override: true}, entry.Options{})
	return change.Revision, err
}

// Stored implements httpapi.Overrides.
func (o overrides) Stored(ctx context.Context, service, id string) (api.WhyEtcd, error) {
	s, err := o.editor.Stored(ctx, service, id)
	if err != nil {
		return api.WhyEtcd{}, err
	}
	stored := api.WhyEtcd{Record: s.Record, Leaving: s.Leaving, Override: s.Override, Static: s.Static, TTL: discovery.Duration(s.TTL)}
	if s.Unreadable != nil {
		stored.Unreadable, stored.Key = strings.ReplaceAll(s.Unreadable.Error(), "\n", "; "), s.Key // in one line
	}
	if s.Lease != 0 {
		stored.Lease = fmt.Sprintf("%x", int64(s.Lease))
	}
	if s.TTL > 0 {
		heard := discovery.Duration(s.TTL - s.Remaining)
		stored.Heard = &heard
	}
	return stored, s.LeaseErr
}
