package agent

import (
	"context"

	"disc/agent/api"
	"disc/discovery"
)

// maxNamed bounds how many saved registrations the log and /readyz name.
const maxNamed = 10

// load registers the instances of the config file, and those that the API registered in
// earlier runs.
func (g *registrar) load(configured []discovery.Registration) {
	saved := g.saved.load()
	g.reload(configured) // removes what is saved of the same instances, or it would be back one day
	for _, r := range saved {
		if g.Owns(r.spec.Service, r.spec.ID) {
			g.log.Warn("instance is in the config file too; its registration by the API is dropped", "service", r.spec.Service, "instance", r.spec.ID)
			continue
		}
		if _, err := g.put(r.spec, origin{source: api.FromAPI, stored: true}); err != nil {
			g.saved.reject(r.key, err, false)
		}
	}
	unusable := g.saved.unusable()
	for _, text := range unusable[:min(len(unusable), maxNamed)] {
		g.log.Error("saved registration cannot be used by this version, or not all of it; it is kept for one that can: run that version, or register the instance anew", "registration", text)
	}
	if more := len(unusable) - maxNamed; more > 0 {
		g.log.Error("further saved registrations cannot be used by this version, or not all of them; 'disc status' names them", "registrations", more)
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
			_ = g.remove(r).wait(context.Background()) // without its lock: the API does not change instances of the config file
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
	_, err = g.put(spec, origin{source: api.FromConfig})
	if err == nil {
		_ = g.saved.remove(keyOf(spec.Service, spec.ID)).wait(context.Background()) // the store logs an error, and retries
	}
	return err
}
