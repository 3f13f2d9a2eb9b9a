package agent

import (
	"context"

	"disc/agent/api"
	"disc/discovery"
)

// save writes what the API has registered to the data directory.
func (g *registrar) save() {
	g.saving.Lock()
	defer g.saving.Unlock()
	kept := []discovery.Registration{}
	for _, r := range g.list() {
		if r.source == api.FromAPI {
			kept = append(kept, r.spec)
		}
	}
	g.dir.keep(kept)
}

// load registers what the config file says and what the API registered in earlier
// runs.
func (g *registrar) load(configured []discovery.Registration) {
	g.reload(configured)
	shadowed := false
	for _, spec := range g.dir.registrations() {
		if g.Owns(spec.Service, spec.ID) {
			g.log.Warn("instance is in the config file too; what the API registered is dropped", "service", spec.Service, "instance", spec.ID)
			shadowed = true
			continue
		}
		if _, err := g.put(spec, api.FromAPI); err != nil {
			g.log.Error("kept registration is no longer valid; it is left out", "service", spec.Service, "instance", spec.ID, "error", err)
		}
	}
	if shadowed {
		g.save() // or it would be back once the config file has it no longer
	}
}

// reload makes the registrations of the config file those that are given. Checks that
// stay the same carry on. What the API has registered under the same id is forgotten.
func (g *registrar) reload(configured []discovery.Registration) {
	wanted := map[instanceKey]bool{}
	for _, spec := range configured {
		wanted[keyOf(spec.Service, spec.ID)] = true
		if err := g.putConfigured(spec); err != nil {
			g.log.Error("instance of the config file cannot be registered", "service", spec.Service, "instance", spec.ID, "error", err)
		}
	}
	for _, r := range g.list() {
		if r.source == api.FromConfig && !wanted[keyOf(r.spec.Service, r.spec.ID)] {
			g.remove(r) // the API does not change what is the config file's
		}
	}
}

// putConfigured registers an instance of the config file.
func (g *registrar) putConfigured(spec discovery.Registration) error {
	end, err := g.locks.Lock(context.Background(), keyOf(spec.Service, spec.ID))
	if err != nil {
		return err
	}
	defer end()
	before, err := g.put(spec, api.FromConfig)
	if before != nil && before.source == api.FromAPI {
		g.save()
	}
	return err
}
