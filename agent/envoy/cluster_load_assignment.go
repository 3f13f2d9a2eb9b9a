package envoy

import (
	"cmp"
	"net/netip"
	"slices"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// The messages of package envoy.config.endpoint.v3, with the fields that are used
// here. The tags are their names in JSON.
type (
	assignment struct { // ClusterLoadAssignment
		Cluster    string              `json:"cluster_name"`
		Localities []localityEndpoints `json:"endpoints,omitempty"`
	}
	localityEndpoints struct { // LocalityLbEndpoints
		Locality  locality   `json:"locality"`
		Endpoints []endpoint `json:"lb_endpoints"`
		Weight    uint32     `json:"load_balancing_weight"`
	}
	locality struct { // Locality
		Zone string `json:"zone,omitempty"`
	}
	endpoint struct { // LbEndpoint
		Host   host   `json:"endpoint"`
		Health health `json:"health_status"`
		Weight uint32 `json:"load_balancing_weight"`
	}
	host struct { // Endpoint
		Address address `json:"address"`
	}
	address struct { // Address
		Socket socket `json:"socket_address"`
	}
	socket struct { // SocketAddress
		Address string `json:"address"`
		Port    uint32 `json:"port_value"`
	}
)

// health is Envoy's HealthStatus.
type health int

const (
	healthy   health = 1
	unhealthy health = 2
	draining  health = 3
	degraded  health = 5
)

// MarshalText implements encoding.TextMarshaler: the enum's name, as ProtoJSON has it.
func (h health) MarshalText() ([]byte, error) {
	switch h {
	case healthy:
		return []byte("HEALTHY"), nil
	case unhealthy:
		return []byte("UNHEALTHY"), nil
	case draining:
		return []byte("DRAINING"), nil
	}
	return []byte("DEGRADED"), nil
}

// assignmentsOf returns the assignments of clusters, in their order.
func assignmentsOf(s *view.Snapshot, clusters []string, domain string) []assignment {
	all := make([]assignment, len(clusters))
	for n, cluster := range clusters {
		all[n] = assignmentOf(s, cluster, domain)
	}
	return all
}

// assignmentOf returns the assignment of a cluster, its endpoints sorted by zone and id. An
// unknown name has no endpoints.
func assignmentOf(s *view.Snapshot, cluster, domain string) assignment {
	a := assignment{Cluster: cluster}
	answer, err := lookup.Lookup(s, lookup.Query{Name: cluster, Domain: domain, Status: discovery.StatusAny})
	if err != nil {
		return a
	}
	for _, e := range edsEndpoints(answer.Endpoints) {
		last := len(a.Localities) - 1
		if last < 0 || a.Localities[last].Locality.Zone != e.Zone {
			a.Localities = append(a.Localities, localityEndpoints{Locality: locality{e.Zone}})
			last++
		}
		out := endpointOf(e)
		a.Localities[last].Endpoints = append(a.Localities[last].Endpoints, out)
		a.Localities[last].Weight += out.Weight
	}
	return a
}

// edsEndpoints returns the endpoints that EDS can express, sorted by zone and id: those with
// an IP address and a port. It leaves out weight 0 while another endpoint could answer.
func edsEndpoints(endpoints []discovery.Endpoint) []discovery.Endpoint {
	weighted := slices.ContainsFunc(endpoints, func(e discovery.Endpoint) bool { return e.Weight > 0 && eligible(e) })
	endpoints = slices.DeleteFunc(endpoints, func(e discovery.Endpoint) bool {
		_, err := netip.ParseAddr(e.Address)
		return err != nil || e.Port == 0 || e.Weight == 0 && weighted
	})
	slices.SortFunc(endpoints, func(a, b discovery.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.ID, b.ID))
	})
	return endpoints
}

// eligible reports whether a plain lookup may return an endpoint.
func eligible(e discovery.Endpoint) bool {
	h := healthOf(e)
	return h == healthy || h == degraded
}

func endpointOf(e discovery.Endpoint) endpoint {
	return endpoint{
		Host:   host{address{socket{e.Address, uint32(e.Port)}}},
		Health: healthOf(e),
		Weight: uint32(max(e.Weight, 1)),
	}
}

func healthOf(e discovery.Endpoint) health {
	switch {
	case e.State == discovery.Drain:
		return draining
	case e.Status == discovery.Critical:
		return unhealthy
	case e.Status == discovery.Warning, e.Suspect:
		return degraded
	}
	return healthy
}
