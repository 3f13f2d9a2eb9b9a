package httpapi

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

// nextSteps returns what to do about an instance, one sentence each.
func nextSteps(w *api.Why) []string {
	steps := []string{}
	add := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	name := w.Service + "/" + w.ID
	if w.Stale {
		add("The view of this agent is %v old: 'disc status' says why etcd does not answer.", time.Duration(w.Age).Round(time.Second))
	}
	if r := w.Registration; r != nil && r.Error != "" && r.State != api.RegistrationConflict {
		add("This agent cannot write the registration to etcd: %s.", r.Error)
	}
	if w.Etcd.Unreadable != "" {
		add("Something else than disc wrote what cannot be read. Delete it with 'etcdctl del %s'; an agent that runs writes its record again.", w.Etcd.Key)
	}
	if w.Instance == nil {
		return append(steps, absentSteps(w, name)...)
	}
	e := w.Instance
	if r := w.Registration; r != nil && r.State == api.RegistrationConflict {
		add("The agent on %s has this id: register the instance of this host with another id, or stop the one on %s.", e.Node, e.Node)
	}
	if e.Suspect && w.Order == nil {
		add("If you know that it is gone: 'disc suspects drop %s'. If you know that it lives: 'disc suspects keep %s'.", name, name)
	}
	if e.State == discovery.Drain || e.State == discovery.Down {
		add("Put it back with 'disc undrain %s'.", name)
	}
	if w.State == api.WhyLeftOut && e.Status != discovery.Passing {
		add("%s", checkStep(w))
	}
	if w.State == api.WhyLeftOut && e.Weight == 0 {
		add("%s", weightStep(e, name))
	}
	switch o := w.Owner; {
	case o == nil:
	case o.Session == api.WhySessionEnded:
		add("Its agent on %s is not heard of: see whether the host and the agent run.", o.Node)
	case isOverdue(w.Etcd):
		add("Its agent on %s has not been heard of for %v: see whether the host and the agent run. After %v its instances go.",
			o.Node, time.Duration(*w.Etcd.Heard), time.Duration(w.Etcd.TTL))
	}
	return steps
}

// isOverdue reports whether two renewals of the lease have not come: an agent renews it each third of
// its time.
func isOverdue(s *api.WhyEtcd) bool { return s.Heard != nil && 3*(*s.Heard) > 2*s.TTL }

// weightStep says how an instance gets a weight above 0. An override of the weight alone can go; one
// of other fields stays.
func weightStep(e *view.Entry, name string) string {
	if o := e.Override; o != nil && o.Weight != nil && o.State == "" && o.Tags == nil && len(o.Meta) == 0 {
		return "Its weight of 0 is by an override: 'disc unset " + name + " --override' removes that."
	}
	return "Give it a weight above 0: 'disc set " + name + " --weight 1' overrides the one that it has."
}

// checkStep says where to look for a failing check.
func checkStep(w *api.Why) string {
	e := w.Instance
	for _, c := range e.Checks {
		if c.Status == e.Status && w.Owner != nil {
			if w.Owner.Here {
				return fmt.Sprintf("Its check %q is %s: 'disc status -o json' on this host has all of its output.", discovery.CheckOutput(cmp.Or(c.Name, c.ID)), c.Status)
			}
			return fmt.Sprintf("Its check %q is %s: 'disc status -o json' on %s has all of its output.", discovery.CheckOutput(cmp.Or(c.Name, c.ID)), c.Status, w.Owner.Node)
		}
	}
	if e.Source == view.SourceStatic {
		name := w.Service + "/" + w.ID
		return fmt.Sprintf("Its static entry has that status. 'disc unset %s --static && disc set %s %s' writes one that is passing, without tags, meta, zone and weight.", name, name, net.JoinHostPort(e.Address, strconv.Itoa(e.Port)))
	}
	return "Its agent says so: see 'disc status' on " + e.Node + "."
}

// absentSteps says what to do about an instance that the view does not have.
func absentSteps(w *api.Why, name string) []string {
	switch {
	case w.Registration != nil && w.Registration.State == api.RegistrationConflict:
		return []string{"Choose another id, or stop the other one: 'disc get " + name + "' shows it."}
	case w.Etcd.Unreadable != "":
		return nil
	case w.State == api.WhyLeftOut && !inEtcd(w.Etcd) && w.Registration == nil:
		return []string{"Register it, or remove the override with 'disc unset " + name + " --override'."}
	case w.State == api.WhyLeftOut:
		return []string{"Ask again in a moment, and see 'disc status' if it stays so."}
	}
	steps := goneSteps(w, name)
	if w.Etcd.Override != 0 {
		steps = append(steps, "Its override stays, and holds again when it comes back: 'disc unset "+name+" --override' removes it.")
	}
	return steps
}

// goneSteps says what to do about an instance that went.
func goneSteps(w *api.Why, name string) []string {
	last := lastChange(w)
	if last.Change != discovery.ChangeGone {
		return []string{"An agent that watches everything may have seen it: run 'disc history " + name + "' on its host."}
	}
	switch last.Reason {
	case discovery.ReasonLeft:
		return []string{"Its agent deregistered it, as when its program or the agent stops: start that again, or register it anew."}
	case discovery.ReasonExpired, discovery.ReasonMassLoss, discovery.ReasonNotFound:
		return []string{"See whether its host and the agent on it run: an agent that is back registers it again."}
	case discovery.ReasonStatic:
		return []string{"Write the static entry again with 'disc set " + name + " HOST:PORT'."}
	}
	return []string{"Somebody deleted its key: its agent, if it runs, writes it again."}
}
