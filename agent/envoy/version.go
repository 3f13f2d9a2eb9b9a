package envoy

import (
	"fmt"
	"hash/fnv"
	"slices"

	"disc/discovery"
	"disc/discovery/view"
)

// clustersOf returns the clusters that a client asks for, sorted: the named ones and, with
// all, every service of the snapshot that has instances.
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
// service of that very name, and the one that the name means as a lookup name.
func servicesOf(cluster, domain string) []string {
	name, err := discovery.ParseName(cluster, domain)
	if err != nil || name.Service == "" || name.Service == cluster {
		return []string{cluster}
	}
	return []string{cluster, name.Service}
}

// version returns the version of clusters: their newest revision, and a hash of their names,
// their services' indexes and etcd's epoch. It differs after each change of any of these.
func version(s *view.Snapshot, clusters []string, domain string) string {
	newest, hash := int64(0), fnv.New64a()
	fmt.Fprint(hash, s.Epoch())
	for _, cluster := range clusters {
		fmt.Fprintf(hash, "\n%q", cluster)
		for _, name := range servicesOf(cluster, domain) {
			index := int64(0)
			if service, ok := s.Service(name); ok {
				index, newest = service.Index(), max(newest, service.Revision)
			}
			fmt.Fprintf(hash, " %d", index)
		}
	}
	return fmt.Sprintf("%d-%016x", newest, hash.Sum64())
}

// scopesOf returns the scopes of services; it leaves out names that no service can have.
func scopesOf(services []string) []discovery.Scope {
	scopes := make([]discovery.Scope, 0, len(services))
	for _, name := range services {
		if name == "" || discovery.ValidateService(name) == nil {
			scopes = append(scopes, discovery.Scope{Service: discovery.FoldName(name)})
		}
	}
	return scopes
}

// subscribedServices returns the services that the endpoints of clusters depend on; with
// all, "".
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
