package agent

import (
	"context"
	"time"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/entry"
)

// suspects knows and writes orders on suspects for the HTTP API.
type suspects struct {
	catalog *catalog.Catalog
	editor  entry.Editor
}

// Order implements httpapi.Suspects.
func (s suspects) Order(service, id string) discovery.SuspectOrder {
	return s.catalog.SuspectOrder(service, id)
}

// Give implements httpapi.Suspects.
func (s suspects) Give(ctx context.Context, service, id string, order discovery.SuspectOrder, keep time.Duration) (discovery.SuspectOrder, error) {
	ctx, cancel := context.WithTimeout(ctx, overrideTimeout)
	defer cancel()
	done, err := s.editor.OrderSuspects(ctx, order, keep, []entry.Instance{{Service: service, ID: id}})
	switch {
	case err != nil:
		return discovery.SuspectOrder{}, err
	case len(done.Back) > 0:
		return discovery.SuspectOrder{}, discovery.Errorf(discovery.ErrConflict, "%s/%s is registered again", service, id)
	}
	return done.Order, nil
}
