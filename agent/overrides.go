package agent

import (
	"context"
	"time"

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
