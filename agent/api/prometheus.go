package api

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// TargetGroup is a target group in the format of Prometheus' http_sd and file_sd. Each instance
// is a group of its own, since it has its own labels.
type TargetGroup struct {
	Targets []string          `json:"targets"` // one: host:port
	Labels  map[string]string `json:"labels"`
}

// metaLabel is the prefix of a target's labels. Prometheus drops them after relabelling.
const metaLabel = "__meta_disc_"

// TargetOptions select the targets. The zero value selects all instances that have a port and
// are not down, whatever their status: a critical instance is worth a look.
type TargetOptions struct {
	lookup.Selector                  // Port is the port to scrape; empty: the main one
	Services        []string         // empty: all
	Status          discovery.Status // empty: all
}

// TargetGroups returns the targets of a fleet, sorted by service and id.
func TargetGroups(s *view.Snapshot, o TargetOptions) []TargetGroup {
	groups := []TargetGroup{}
	for service := range s.Services() {
		if !o.wants(service.Name) {
			continue
		}
		for _, e := range service.Entries() {
			if group, ok := o.group(e); ok {
				groups = append(groups, group)
			}
		}
	}
	return groups
}

func (o *TargetOptions) wants(service string) bool {
	for _, name := range o.Services {
		if discovery.FoldName(name) == discovery.FoldName(service) {
			return true
		}
	}
	return len(o.Services) == 0
}

func (o *TargetOptions) group(e *view.Entry) (TargetGroup, bool) {
	port := e.Port
	if o.Port != "" {
		port = e.Ports[o.Port]
	}
	if port == 0 || e.State == discovery.Down || o.Status != "" && e.Status != o.Status || o.Match(e) != "" {
		return TargetGroup{}, false
	}
	return TargetGroup{[]string{net.JoinHostPort(e.Address, strconv.Itoa(port))}, targetLabels(e)}, true
}

// targetLabels returns the labels of an instance. Each tag has a comma on either side, so that
// a regular expression matches a whole tag: .*,v2,.*
func targetLabels(e *view.Entry) map[string]string {
	labels := map[string]string{
		metaLabel + "service":  e.Service,
		metaLabel + "instance": e.ID,
		metaLabel + "node":     e.Node,
		metaLabel + "zone":     e.Zone,
		metaLabel + "status":   string(e.Status),
		metaLabel + "state":    string(e.State),
		metaLabel + "tags":     "",
	}
	if len(e.Tags) > 0 {
		labels[metaLabel+"tags"] = "," + strings.Join(e.Tags, ",") + ","
	}
	for _, key := range slices.Sorted(maps.Keys(e.Meta)) {
		setLabel(labels, "meta_", key, e.Meta[key])
	}
	for _, name := range slices.Sorted(maps.Keys(e.Ports)) {
		setLabel(labels, "port_", name, strconv.Itoa(e.Ports[name]))
	}
	return labels
}

// setLabel adds the label of a key. Of several keys with the same label name, the one that is
// spelled exactly so wins, otherwise the first.
func setLabel(labels map[string]string, prefix, key, value string) {
	name := labelName(key)
	if _, taken := labels[metaLabel+prefix+name]; !taken || name == key {
		labels[metaLabel+prefix+name] = value
	}
}

// labelName returns the label name of a key, as Prometheus' own service discoveries do:
// everything but ASCII letters, digits and underscores becomes an underscore.
func labelName(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, key)
}
