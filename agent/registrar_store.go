package agent

import (
	"context"

	"disc/agent/api"
	"disc/discovery"
)

// save writes the registrations of the API to the data directory.
func (g *registrar) save() {
	g.saving.Lock()
	defer g.saving.Unlock()
	kept := []discovery.Registration{}
	for _, r := range g.list() {
		if r.source == api.FromAPI {
			kept = append(kept, r.spec)
		}
	}
	g.dir.saveRegistrations(kept)
}

// load registers the instances of the config file, and those that the API registered in
// earlier runs.
func (g *registrar) load(configured []discovery.Registration) {
	g.reload(configured)
	shadowed := false
	for _, spec := range g.dir.registrations() {
		if g.Owns(spec.Service, spec.ID) {
			g.log.Warn("instance is in the config file too; its registration by the API is dropped", "service", spec.Service, "instance", spec.ID)
			shadowed = true
			continue
		}
		if _, err := g.put(spec, origin{source: api.FromAPI, stored: true}); err != nil {
			g.log.Error("registration in the data directory is not valid any more; it is left out", "service", spec.Service, "instance", spec.ID, "error", err)
		}
	}
	if shadowed {
		g.save() // otherwise it would be back once it is removed from the config file
	}
}

// reload replaces the registrations of the config file. Checks that stay the same carry on.
// A registration by the API of the same instance is removed.
func (g *registrar) reload(configured []discovery.Registration) {
	desired := map[instanceKey]bool{}
	for _, spec := range configured {
		desired[keyOf(spec.Service, spec.ID)] = true
		if err := g.putConfigured(spec); err != nil {
			g.log.Error("instance of the config file cannot be registered", "service", spec.Service, "instance", spec.ID, "error", err)
		}
	}
	for _, r := range g.list() {
		if r.source == api.FromConfig && !desired[keyOf(r.spec.Service, r.spec.ID)] {
			g.remove(r) // without its lock: the API does not change instances of the config file
		}
	}
}

// putConfigured registers an instance of the config file.
func (g *registrar) putConfigured(spec discovery.Registration) error {
	unlock, err := g.locks.Lock(context.Background(), keyOf(spec.Service, spec.ID))
	if err != nil {
		return err
	}
	defer unlock()
	before, err := g.put(spec, origin{source: api.FromConfig})
	if before != nil && before.source == api.FromAPI {
		g.save()
	}
	return err
}
