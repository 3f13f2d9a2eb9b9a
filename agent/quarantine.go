package agent

import (
	"context"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/life"
)

// quarantines shows and sets quarantines for the HTTP API.
type quarantines struct{ life *life.Life }

// Get implements httpapi.Quarantines.
func (q quarantines) Get(ctx context.Context) (api.Quarantine, error) {
	s, err := q.life.QuarantineStatus(ctx)
	return quarantineOf(s), err
}

// SetLength implements httpapi.Quarantines.
func (q quarantines) SetLength(ctx context.Context, length time.Duration) (api.Quarantine, error) {
	s, err := q.life.SetQuarantine(ctx, length)
	return quarantineOf(s), err
}

// quarantineOf returns a status as the API shows it. InEffectWithin is rounded up.
func quarantineOf(s life.QuarantineStatus) api.Quarantine {
	return api.Quarantine{
		Length: discovery.Duration(s.Length), InEffectWithin: discovery.Duration((s.InEffectWithin + time.Second - 1).Truncate(time.Second)),
		Active: s.Active, Reason: s.Reason, EndsWithin: discovery.Duration(s.EndsWithin),
	}
}
