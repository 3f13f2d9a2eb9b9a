package httpapi

import (
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// subject returns what a query depends on in a snapshot: the service whose changes wake it
// (empty: any change), and the index; 0: the subject does not exist.
type subject func(*view.Snapshot) (service string, revision int64)

func serviceSubject(name string) subject {
	return func(s *view.Snapshot) (string, int64) {
		if service, ok := s.Service(name); ok {
			return name, service.Index()
		}
		return name, 0
	}
}

func servicesSubject(s *view.Snapshot) (string, int64) { return "", s.ServicesIndex() }

func nodesSubject(s *view.Snapshot) (string, int64) { return "", s.NodesRevision() }

// awaitView returns the view to answer a query from, with the scopes that the answer
// depends on, and the index of the query. Where the caller asks for it, awaitView blocks
// until there is something that the caller has not seen, see [seen]. It stops waiting when the
// caller's time is over, the caller is gone or the API ends.
func (a *API) awaitView(r request, about subject, scopes ...discovery.Scope) (view.View, int64, error) {
	known, wait, err := r.query.wait()
	if err != nil {
		return view.View{}, 0, err
	}
	current, err := a.ensuredView(r, scopes...)
	if err != nil {
		return view.View{}, 0, err
	}
	service, index := about(current.Snapshot)
	has := seen{known: known, index: index, epoch: current.Snapshot.Epoch()}
	if wait == 0 || !has.begins(current) {
		return current, index, a.startWork(r)
	}
	end, err := a.admit(r, a.reads)
	if err != nil {
		return view.View{}, 0, err
	}
	defer end()
	defer a.metrics.streaming("wait")()
	defer a.backends.Catalog.Retain(scopes...)()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	var lag <-chan time.Time
	if !has.reached(current) {
		a.backends.Catalog.RequestProgress()
		lag = time.After(a.timeouts.lag)
	}
	for over, late := false, false; ; {
		changed := a.backends.Catalog.Changed(service)
		if current, err = a.backends.Catalog.View(); err != nil {
			return view.View{}, 0, err
		}
		over = over || late && !has.reached(current)
		late = false
		if service, index = about(current.Snapshot); !has.covers(index, current) || over {
			// What was dropped from the view, as etcd forbids to read it, is not absent.
			if current, err = a.ensuredView(r, scopes...); err != nil {
				return view.View{}, 0, err
			}
			service, index = about(current.Snapshot)
		}
		if !has.covers(index, current) || over {
			if err := a.recheck(r); err != nil {
				return view.View{}, 0, err
			}
			return current, index, a.startWork(r)
		}
		select {
		case <-changed:
		case <-lag:
			late = true
		case <-timeout.C:
			over = true
		case <-r.Context().Done():
			over = true
		case <-a.streamsEnded:
			over = true
		}
	}
}

// ensuredView returns the view once it has the scopes, as far as they exist.
func (a *API) ensuredView(r request, scopes ...discovery.Scope) (view.View, error) {
	if _, err := a.backends.Catalog.View(); err != nil {
		return view.View{}, err
	}
	if err := a.backends.Catalog.Ensure(r.Context(), scopes...); err != nil {
		return view.View{}, err
	}
	return a.backends.Catalog.View()
}

// awaitRevision waits until the view has a write to a service, which etcd answered with
// revision. It stops waiting when that takes too long, the caller is gone or the API ends:
// the write is done in any case.
func (a *API) awaitRevision(r request, service string, revision int64) {
	late := time.NewTimer(a.timeouts.ownWrite)
	defer late.Stop()
	defer a.backends.Catalog.Retain(scopeOf(service))()
	for {
		changed := a.backends.Catalog.Changed("")
		if view, err := a.backends.Catalog.View(); err == nil && hasWrite(view, service, revision) {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			return
		case <-r.Context().Done():
			return
		case <-a.streamsEnded:
			return
		}
	}
}

// hasWrite reports whether a view has the write to a service at a revision. A partial view
// may get later changes of other services before it.
func hasWrite(v view.View, service string, revision int64) bool {
	if !v.Partial {
		return v.Snapshot.Revision() >= revision
	}
	s, ok := v.Snapshot.Service(service)
	return ok && s.Revision >= revision
}

// lagTime is how long a query with the revision of a later view than the agent's waits for the
// agent to get there. Where nothing has changed, the agent learns that from etcd, which it asks.
const lagTime = 5 * time.Second

// seen is what the caller of a blocking query has seen: the state of the query's subject at an index,
// or, with a plain revision of etcd, the whole view up to it.
type seen struct {
	known int64  // by the caller
	index int64  // of the subject in the last view, or 0
	epoch string // of the first view
}

// begins reports whether the caller has seen the first view, so that it waits. A plain revision from
// before the first view in etcd's present life may be one of another life. The revision of a partial
// view is that of other services too, of which the subject's may not have come yet.
func (s *seen) begins(v view.View) bool {
	return s.index == s.known || s.index != 0 && s.index < s.known && v.First <= s.known && s.known <= view.MaxRevision && !v.Partial
}

// reached reports whether a view is as new as the one that the caller has seen.
func (s *seen) reached(v view.View) bool {
	return s.index == s.known || s.known <= v.Revision()
}

// covers reports whether the caller has seen the subject at a later index, of a view. An index that
// goes back is one of another life of etcd.
func (s *seen) covers(index int64, v view.View) bool {
	if index > s.known || index < s.index || v.Snapshot.Epoch() != s.epoch {
		return false
	}
	s.index = index
	return true
}
