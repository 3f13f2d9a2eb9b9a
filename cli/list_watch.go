package cli

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

// listAndWatch prints what 'disc list' prints, and then a row for each change. It prints an
// instance once more when it stops being selected.
func (a *app) listAndWatch(ctx context.Context, o listOptions, selects func(*view.Entry) bool) error {
	asJSON, err := a.changesAsJSON()
	if err != nil {
		return err
	}
	table := a.changeTable(o, asJSON)
	first, shown, known := true, lastSeen{}, lastSeen{}
	for e, err := range a.changeStream(ctx, o.service) {
		if err == nil && first {
			err = a.requireService(ctx, o.service, e)
		}
		if err != nil {
			return err
		}
		before := known.get(e)
		known.update(e)
		e, ok := selected(e, selects, shown)
		if first && len(e.Instances) == 0 {
			a.sayEmpty(o, len(known))
		}
		first = false
		switch {
		case !ok:
		case asJSON:
			err = a.showEvent(e)
		default:
			err = table.show(e, before)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sayEmpty says that the list is empty that changes are to follow, although so many instances are known.
func (a *app) sayEmpty(o listOptions, known int) {
	if o.service == "" && !o.selectsInstances() {
		a.sayNoServices()
		return
	}
	a.sayNoInstances(o.service, known)
}

// changeTable returns the table of a list that follows changes; nil if they are shown as JSON.
func (a *app) changeTable(o listOptions, asJSON bool) interface {
	show(e api.Event, before *view.Entry) error
} {
	rows := tableWriter{out: a.io, wide: a.config.CLI.Output == "wide"}
	switch {
	case asJSON:
		return nil
	case o.service != "" || o.selectsInstances():
		return &instanceTable{rows: rows, listing: entriesOf(o.service, nil)}
	}
	return &serviceTable{rows: rows, services: map[string]*followedService{}}
}

// requireService returns an ErrNotFound if the first event of a stream is without instances
// because nothing is known of the service.
func (a *app) requireService(ctx context.Context, service string, first api.Event) error {
	if service == "" || len(first.Instances) > 0 {
		return nil
	}
	_, err := a.instances(ctx, service)
	return err
}

// selected narrows an event to the instances that are selected, or were when they were
// last shown. It updates shown. ok is false for an event about other instances.
func selected(e api.Event, selects func(*view.Entry) bool, shown lastSeen) (_ api.Event, ok bool) {
	was := shown.get(e) != nil
	e.Instances = slices.DeleteFunc(slices.Clone(e.Instances), func(i *view.Entry) bool { return !selects(i) })
	now := e
	if e.Instance != nil && !selects(e.Instance) {
		now.Instance = nil
	}
	shown.update(now)
	return e, e.Type == api.EventReset || was || now.Instance != nil
}

// instanceTable shows instances in the columns of 'disc list SERVICE', with the time and what
// has changed.
type instanceTable struct {
	rows    tableWriter
	listing listing[view.Entry]
}

// show prints the instances of an event. That of a deletion is shown as it was before.
func (t *instanceTable) show(e api.Event, before *view.Entry) error {
	if e.Type == api.EventReset {
		var rows [][]string
		for _, i := range e.Instances {
			rows = append(rows, t.row(*i, ""))
		}
		return t.write(rows)
	}
	after := e.Instance
	if after == nil {
		after = before
	}
	if after == nil {
		after = &view.Entry{Instance: discovery.Instance{Service: e.Service, ID: e.ID}}
	}
	return t.write([][]string{t.row(*after, describeChange(e, before))})
}

func (t *instanceTable) row(i view.Entry, change string) []string {
	return slices.Concat([]string{clock()}, t.listing.row(i, t.rows.wide), []string{cell(change)})
}

func (t *instanceTable) write(rows [][]string) error {
	return t.rows.write(slices.Concat([]string{"TIME"}, t.listing.header(t.rows.wide), []string{"CHANGE"}), rows)
}

// serviceTable shows services in the columns of 'disc list', with the time and what has changed.
type serviceTable struct {
	rows     tableWriter
	services map[string]*followedService // by their folded names
}

// followedService is a service of a list that follows changes.
type followedService struct {
	name      string
	revision  int64
	instances lastSeen
}

// show prints the service of an event, or all services of a reset.
func (t *serviceTable) show(e api.Event, before *view.Entry) error {
	l := serviceListing(nil)
	header := slices.Concat([]string{"TIME"}, l.header(t.rows.wide), []string{"CHANGE"})
	var rows [][]string
	row := func(s *followedService, change string) {
		rows = append(rows, slices.Concat([]string{clock()}, l.row(s.summary(), t.rows.wide), []string{cell(change)}))
	}
	if e.Type != api.EventReset {
		row(t.update(e), e.ID+": "+describeChange(e, before))
		return t.rows.write(header, rows)
	}
	clear(t.services)
	for _, i := range e.Instances {
		t.update(api.Event{Service: i.Service, ID: i.ID, Revision: e.Revision, Instance: i})
	}
	for _, name := range slices.Sorted(maps.Keys(t.services)) {
		row(t.services[name], "")
	}
	return t.rows.write(header, rows)
}

// update applies the change of an instance to its service, and returns that.
func (t *serviceTable) update(e api.Event) *followedService {
	name := discovery.FoldName(e.Service)
	s := t.services[name]
	if s == nil {
		s = &followedService{name: e.Service, instances: lastSeen{}}
		t.services[name] = s
	}
	s.revision = max(s.revision, e.Revision)
	s.instances.update(e)
	return s
}

// summary returns the service as 'disc list' shows it.
func (s *followedService) summary() listedService {
	summary := listedService{api.Service{Service: s.name, Total: len(s.instances)}, s.revision}
	for _, e := range s.instances {
		if e.Healthy() {
			summary.Healthy++
		}
		summary.Tags = append(summary.Tags, e.Tags...)
	}
	slices.Sort(summary.Tags)
	summary.Tags = slices.Compact(summary.Tags)
	return summary
}

// describeChange tells what an event changes of an instance.
func describeChange(e api.Event, before *view.Entry) string {
	switch {
	case e.Instance == nil:
		return string(e.Type) + ", " + string(e.Reason)
	case before == nil:
		return "new"
	}
	return strings.Join(changedFields(before, e.Instance), ", ")
}

// clock returns the time of day by this host's clock.
func clock() string { return time.Now().Format(time.TimeOnly) }
