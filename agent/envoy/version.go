package envoy

import (
	"fmt"
	"hash/fnv"
	"slices"

	"disc/discovery"
	"disc/discovery/view"
)

// clustersOf returns the clusters that names stand for in a snapshot, sorted: all services
// that have instances, where all are wanted, and what is named.
func clustersOf(s *view.Snapshot, names []string, all bool) []string {
	clusters := slices.Clone(names)
	if all {
		for service := range s.Services() {
			if !service.Empty() {
				clusters = append(clusters, service.Name)
			}
		}
	}
	slices.Sort(clusters)
	return slices.Compact(clusters)
}

// servicesOf returns the names of the services that a cluster's endpoints depend on: the
// one that is called so, and the one that the name means by its grammar.
func servicesOf(cluster, domain string) []string {
	name, err := discovery.ParseName(cluster, domain)
	if err != nil || name.Service == "" || name.Service == cluster {
		return []string{cluster}
	}
	return []string{cluster, name.Service}
}

// version stands for the endpoints of clusters: it is another after each change of
// them, of what they are, or of the life of the etcd that the revisions belong to.
func version(s *view.Snapshot, clusters []string, domain string) string {
	newest, print := int64(0), fnv.New64a()
	fmt.Fprint(print, s.Epoch())
	for _, cluster := range clusters {
		fmt.Fprintf(print, "\n%q", cluster)
		for _, name := range servicesOf(cluster, domain) {
			index := int64(0)
			if service, ok := s.Service(name); ok {
				index, newest = service.Index(), max(newest, service.Revision)
			}
			fmt.Fprintf(print, " %d", index)
		}
	}
	return fmt.Sprintf("%d-%016x", newest, print.Sum64())
}

// scopesOf returns the parts of a view that services lie in.
func scopesOf(services []string) []discovery.Scope {
	parts := make([]discovery.Scope, 0, len(services))
	for _, name := range services {
		if name == "" || discovery.ValidateService(name) == nil {
			parts = append(parts, discovery.Scope{Service: discovery.FoldName(name)})
		}
	}
	return parts
}

// subscribedServices returns the services whose changes concern a subscription; "" is all.
func subscribedServices(names []string, all bool, domain string) []string {
	if all {
		return []string{""}
	}
	var of []string
	for _, name := range names {
		of = append(of, servicesOf(name, domain)...)
	}
	return of
}
