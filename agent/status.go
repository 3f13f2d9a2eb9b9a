package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"disc/agent/api"
	"disc/config"
	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/registry"
)

// Status implements httpapi.Agent.
func (a *Agent) Status(ctx context.Context) api.Agent {
	s := api.Agent{
		Version: a.options.Version, Node: a.node.Node, Zone: a.node.Zone,
		Namespace: a.config.Namespace, Domain: a.config.DNS.Domain, Advertise: a.node.Address,
		Owner: a.node.Agent, Run: a.runID, Started: a.node.Started,
		Endpoints: a.config.Etcd.Endpoints, Settings: a.settings(),
		Session: a.sessionStatus(), Catalog: a.catalogStatus(), Level: a.levelStatus(), Registrations: a.registrar.status(),
		Certificates: a.certificates.status(ctx),
	}
	s.Unusable = a.registrar.saved.unusable()
	if err := a.registrar.saved.lostErr(); err != nil {
		s.Unsaved = err.Error()
	}
	if err := a.life.Blocked(); err != nil {
		s.Ungranted = err.Error()
	}
	return s
}

// settings returns the settings in force: those that a reload does not apply are as at the
// start.
func (a *Agent) settings() []api.Setting {
	atStart := map[string]config.Setting{}
	for _, s := range a.config.Settings() {
		atStart[s.Key] = s
	}
	var all []api.Setting
	for _, s := range a.current.Load().Settings() {
		if first, ok := atStart[s.Key]; ok && !config.Reloads(s.Key) {
			s = first
		}
		all = append(all, api.Setting{Name: s.Key, Value: s.Value, Source: s.Origin})
	}
	return all
}

func (a *Agent) sessionStatus() api.Session {
	lease, _ := a.session.Lease()
	health := a.session.Health()
	s := api.Session{State: api.SessionConnecting, TTL: discovery.Duration(a.config.Session.TTL), Since: health.Since}
	if lease.ID != 0 {
		if lease.Reliable() > 0 {
			s.State = api.SessionAlive
		}
		s.Lease, s.TTL = fmt.Sprintf("%x", int64(lease.ID)), discovery.Duration(lease.TTL)
		s.LastKeepalive = discovery.Duration(lease.SinceRenewal().Round(time.Millisecond))
		s.Endpoint, s.Member = lease.Endpoint, memberID(lease.Member)
	}
	err := a.explain(health.Err)
	if err == nil && lease.ID == 0 {
		err = etcd.Unreachable(a.client) // known before the session's first call has failed
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

func (a *Agent) catalogStatus() api.Catalog {
	health := a.catalog.Health()
	s := api.Catalog{Synced: health.Synced, Broken: health.Broken, Suspects: health.Suspects, Resyncs: health.Resyncs,
		Endpoint: health.Endpoint, Member: memberID(health.Member)}
	view, noView := a.catalog.View()
	err := cmp.Or(health.Err, a.catalog.Forbidden())
	if err == nil && noView != nil {
		err = etcd.Unreachable(a.client)
	}
	if err != nil {
		s.Error = err.Error()
	}
	if noView != nil {
		return s
	}
	s.Revision, s.Epoch = view.Revision(), view.Snapshot.Epoch()
	s.Age, s.Stale = discovery.Duration(view.Age.Round(time.Millisecond)), view.Stale
	s.Services, s.Instances, s.Nodes = view.Snapshot.Len()
	return s
}

// memberID returns the id of a member of etcd as etcdctl shows it; "" of 0.
func memberID(id uint64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatUint(id, 16)
}

func (a *Agent) levelStatus() api.Level {
	l := a.level.State()
	s := api.Level{Own: l.Own, Namespace: l.Record.Level, Target: l.Record.Target, RaisedWithin: discovery.Duration(l.Within), Behind: l.Record.Behind, More: l.Record.More}
	if l.Err != nil {
		s.Error = a.explain(l.Err).Error()
	}
	return s
}

// status returns all registrations, sorted by service and id.
func (g *registrar) status() []api.Registration {
	all := []api.Registration{}
	for _, r := range g.list() {
		s := api.Registration{Service: r.spec.Service, ID: r.spec.ID, Source: r.source, State: api.RegistrationPending, Checks: r.checkStatus()}
		s.DeregisterAfter = discovery.Duration(r.deregisterAfter())
		s.DeregisterAt, _ = r.deadline()
		state, err := g.registry.State(r.spec.Service, r.spec.ID)
		if err == nil {
			s.State, s.Revision, s.Status = registrationStates[state.Phase], state.Revision, state.Instance.Status
			err = g.explain(state.Err)
		}
		if err != nil {
			s.Error = err.Error()
		}
		if s.Status == "" {
			s.Status = discovery.Critical // as it is written until the checks have a result
		}
		all = append(all, s)
	}
	return all
}

var registrationStates = map[registry.Phase]api.RegistrationState{
	registry.PhasePending:  api.RegistrationPending,
	registry.PhaseWritten:  api.RegistrationWritten,
	registry.PhaseConflict: api.RegistrationConflict,
	registry.PhaseLeaving:  api.RegistrationLeaving,
}

func (r *registration) checkStatus() []api.Check {
	all := []api.Check{}
	for _, c := range r.checks.Checks() {
		status := c.Status
		if status == "" {
			status = discovery.Critical
		}
		all = append(all, api.Check{ID: c.ID, Name: c.Name, Type: c.Type, Status: status, Output: c.Output, Last: c.LastRun})
	}
	return all
}

// Ready implements httpapi.Agent.
func (a *Agent) Ready() (lookup, registered error) {
	if a.leaving.Load() {
		err := errors.New("the agent is stopping")
		return err, err
	}
	_, lookup = a.catalog.View()
	return lookup, a.registrar.pending()
}

// Alive implements httpapi.Agent.
func (a *Agent) Alive() error { return a.watchdog.alive() }
