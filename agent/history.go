package agent

import (
	"errors"

	"disc/agent/api"
	"disc/agent/httpapi"
	"disc/discovery"
	"disc/discovery/changelog"
)

// history gives the HTTP API the changes that the agent saw.
type history struct{ log *changelog.Log }

// Read implements httpapi.History.
func (h history) Read(q httpapi.HistoryQuery) (api.History, error) {
	if h.log == nil {
		return api.History{}, discovery.Errorf(discovery.ErrNotFound, "this agent keeps no history: its setting catalog.history_bytes is 0")
	}
	p, err := h.log.Read(changelog.Query(q))
	if errors.Is(err, changelog.ErrCursor) {
		return api.History{}, discovery.Errorf(discovery.ErrInvalid, "%v; ask without it", err)
	}
	return api.History{Begins: p.Begins, Changes: p.Changes, Truncated: p.More, Skipped: p.Skipped, Watched: p.Watched, End: p.End}, err
}

// Changed implements httpapi.History.
func (h history) Changed() <-chan struct{} { return h.log.Changed() }
