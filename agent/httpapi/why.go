package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// Bounds of an explanation of an instance.
const (
	whyChanges = 10              // the last changes that it has
	whyEtcd    = 2 * time.Second // that etcd gets to answer
	whyAsking  = 8               // explanations that ask etcd at once: whoever may read can have it asked
	whyTurn    = time.Second     // that another waits until it may ask
)

func (a *API) whyRoutes() []route {
	return []route{{method: "GET", path: instancePath + "/why", scope: access.Read, handle: a.why}}
}

// why explains why the agent answers with an instance or not. An instance that it does not know has an
// explanation too.
func (a *API) why(w http.ResponseWriter, r request) error {
	service, id := r.PathValue("service"), r.PathValue("id")
	if err := errors.Join(discovery.ValidateService(service), discovery.ValidateID(id)); err != nil {
		return err
	}
	current, err := a.ensuredView(r, scopeOf(service))
	if err != nil {
		return err
	}
	e, err := a.explainInstance(r, current, service, id)
	if err != nil {
		return err
	}
	return a.replyValue(w, http.StatusOK, e)
}

func (a *API) explainInstance(r request, v view.View, service, id string) (api.Why, error) {
	w := api.Why{Service: service, ID: id, Revision: v.Revision(), Age: discovery.Duration(v.Age.Round(time.Millisecond)), Stale: v.Stale}
	s, known := v.Snapshot.Service(service)
	if known {
		w.Service = s.Name
		w.Instance, _ = s.Entry(id)
	}
	h, err := a.backends.History.Read(HistoryQuery{Service: service, ID: id, Limit: whyChanges})
	if w.Changes = []discovery.Change{}; err == nil { // otherwise the agent keeps none
		w.Changes, w.Begins = h.Changes, h.Begins
	}
	w.Registration = a.registrationOf(r, service, id)
	w.Etcd = a.storedOf(r, service, id)
	if w.Instance != nil {
		if err := a.explainEntry(r, v, &w); err != nil {
			return api.Why{}, err
		}
	} else if !explainAbsent(&w) {
		return api.Why{}, notAsked(a.unknownInstance(r, v.Snapshot, service, id), w.Etcd.Error)
	}
	w.Next = nextSteps(&w)
	return w, nil
}

// notAsked adds to the error for an unknown instance why etcd could not be asked; "": it was.
func notAsked(err error, cause string) error {
	if cause == "" || !errors.Is(err, discovery.ErrNotFound) {
		return err
	}
	return discovery.Errorf(discovery.ErrNotFound, "%v (etcd, which may have it, could not be asked: %s)", err, cause)
}

// unknownInstance returns the error for an instance that nobody knows. It suggests those that are most
// like it.
func (a *API) unknownInstance(r request, s *view.Snapshot, service, id string) error {
	of, known := s.Service(service)
	if !known {
		nearest, _, err := a.nearestServices(r, s, service, service)
		return cmp.Or(err, discovery.Errorf(discovery.ErrNotFound, "service %q is not known%s", service, suggestion(nearest, "disc list")))
	}
	var ids []string
	for _, e := range of.Entries() {
		ids = append(ids, e.ID)
	}
	return discovery.Errorf(discovery.ErrNotFound, "instance %q of service %q is not known%s", id, of.Name, suggestion(lookup.Nearest(id, ids), "disc list "+of.Name))
}

// suggestion returns the end of an error: names that may have been meant or, without any, the command
// that lists all.
func suggestion(names []string, list string) string {
	if len(names) == 0 {
		return "; see '" + list + "'"
	}
	return lookup.DidYouMean(names)
}

// explainEntry explains an instance that the view has. Its error is that too many compute an answer.
func (a *API) explainEntry(r request, v view.View, w *api.Why) error {
	_, w.Missing = v.Snapshot.Missing(w.Service, w.ID)
	if order := a.backends.Suspects.Order(w.Service, w.ID); order.Order != "" {
		w.Order = &order
	}
	if w.Instance.Owner != "" && w.Instance.Source == view.SourceAgent {
		w.Owner = a.ownerOf(r, v, w)
	}
	if err := a.startWork(r); err != nil {
		return err
	}
	w.State, w.Reason = api.WhyLeftOut, "a lookup of its service fails"
	answer, err := lookup.Lookup(v.Snapshot, lookup.Query{Name: w.Service, Explain: true, NoLoad: true, PanicThreshold: a.options.Panic})
	if err != nil {
		return nil
	}
	for _, e := range answer.Explain {
		if e.ID == w.ID {
			if w.Reason = e.Why; e.In {
				w.State = api.WhyAnswered
			}
		}
	}
	return nil
}

// ownerOf returns the agent that registered an instance, and whether it lives by the view. Without etcd
// it does not wait for the node to be read.
func (a *API) ownerOf(r request, v view.View, w *api.Why) *api.WhyOwner {
	e := w.Instance
	owner := &api.WhyOwner{Agent: e.Owner, Node: e.Node, Here: e.Owner == a.backends.Agent.Status(r.Context()).Owner, Session: api.WhySessionUnknown}
	if w.Etcd.Error == "" {
		current, err := a.ensuredView(r, discovery.Scope{Node: e.Node})
		if err != nil {
			return owner
		}
		v, owner.Session = current, api.WhySessionEnded
	}
	if w.Etcd.Heard != nil { // an agent that starts may write its own record after the instance's
		owner.Session = api.WhySessionAlive
	}
	for n := range v.Snapshot.Node(e.Node) {
		if n.Agent == e.Owner {
			record := *n
			owner.Session, owner.Record = api.WhySessionAlive, &record
		}
	}
	return owner
}

// registrationOf returns the registration of an instance at this agent; nil: it has none. What is for
// scope status is left out for others, as in /v1/agent.
func (a *API) registrationOf(r request, service, id string) *api.Registration {
	if !a.backends.Registrar.Owns(service, id) {
		return nil
	}
	s := withoutNulls(a.backends.Agent.Status(r.Context()))
	if !a.mayAlso(r, access.Status) {
		s = withoutDetails(s)
	}
	n := slices.IndexFunc(s.Registrations, func(r api.Registration) bool {
		return discovery.FoldName(r.Service) == discovery.FoldName(service) && r.ID == id
	})
	if n < 0 {
		return nil
	}
	return &s.Registrations[n]
}

// storedOf asks etcd what it has of an instance. It does not wait for long: without etcd, the view
// explains.
func (a *API) storedOf(r request, service, id string) *api.WhyEtcd {
	turn := time.NewTimer(whyTurn)
	defer turn.Stop()
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
	case <-r.Context().Done(): // nobody reads the answer
		return &api.WhyEtcd{Error: retry.PlainText(context.Cause(r.Context()))}
	case <-turn.C:
		return &api.WhyEtcd{Error: fmt.Sprintf("%d other explanations ask it, the most that do at once; try again later", whyAsking)}
	}
	ctx, cancel := context.WithTimeout(r.Context(), whyEtcd)
	defer cancel()
	stored, err := a.backends.Overrides.Stored(ctx, service, id)
	switch {
	case err != nil && !a.mayAlso(r, access.Status):
		stored.Error = hiddenReason // it may name where etcd is
	case err != nil && a.options.Explain != nil:
		stored.Error = retry.PlainText(a.options.Explain(err))
	case err != nil:
		stored.Error = retry.PlainText(err)
	}
	return &stored
}

// explainAbsent explains an instance that the view does not have. It returns false if nothing is known
// of it.
func explainAbsent(w *api.Why) bool {
	last := lastChange(w)
	w.State = api.WhyLeftOut
	switch {
	case w.Registration != nil && w.Registration.State != api.RegistrationWritten:
		w.Reason = "it is registered through this agent, and not in etcd yet"
		if w.Registration.State == api.RegistrationConflict {
			w.Reason = "it is registered through this agent, and another agent has its id"
		}
	case w.Etcd.Unreadable != "":
		w.Reason = "it cannot be read from etcd: " + w.Etcd.Unreadable
	case inEtcd(w.Etcd):
		w.Reason = "etcd has it, and the view of this agent has not"
	case last == nil && w.Etcd.Override != 0:
		w.Reason = "etcd has an override of it alone, without a record or a static entry"
	case last == nil:
		return false
	case last.Change == discovery.ChangeGone:
		w.State, w.Reason = api.WhyGone, last.Why
	default:
		w.State, w.Reason = api.WhyGone, "it went while this agent did not see the changes of its service"
	}
	return true
}

// inEtcd reports whether etcd has an instance.
func inEtcd(s *api.WhyEtcd) bool { return s.Record != 0 && !s.Leaving || s.Static != 0 }

// lastChange returns the last change of the instance itself that the agent saw; nil: none.
func lastChange(w *api.Why) *discovery.Change {
	for n := len(w.Changes) - 1; n >= 0; n-- {
		if w.Changes[n].ID != "" {
			return &w.Changes[n]
		}
	}
	return nil
}
