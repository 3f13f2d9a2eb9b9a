package agent_test

import (
	"fmt"
	"strconv"
	"testing"

	"disc/agent/api"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// The status says which member of etcd answers, and goes on to another one with the agent.
func TestStatusNamesTheMember(t *testing.T) {
	etcd := etcdtest.Start(t)
	links := map[string]*etcdtest.Link{}
	for range 2 {
		link := etcdtest.StartLink(t, etcd.Endpoint())
		links[link.Endpoint()] = link
	}
	var endpoints []string
	for endpoint := range links {
		endpoints = append(endpoints, endpoint)
	}
	got := etcdtest.Must(etcdtest.Client(t, etcd.Endpoint()).Get(t.Context(), "key"))
	member := strconv.FormatUint(got.Header.MemberId, 16)
	a := start(t, settings(t, endpoints[0]+","+endpoints[1], "session: {ttl: 5s}"))
	names := func(watched, renewed func(endpoint string) bool) error {
		s, err := a.api.Agent(t.Context())
		switch {
		case err != nil:
			return err
		case !watched(s.Catalog.Endpoint) || s.Catalog.Member != member:
			return fmt.Errorf("watched at %q, member %q; want member %s of %v", s.Catalog.Endpoint, s.Catalog.Member, member, endpoints)
		case !renewed(s.Session.Endpoint) || s.Session.Member != member:
			return fmt.Errorf("renewed at %q, member %q; want member %s of %v", s.Session.Endpoint, s.Session.Member, member, endpoints)
		}
		return nil
	}
	known := func(endpoint string) bool { return links[endpoint] != nil }
	retrytest.Succeeds(t, func() error { return names(known, known) })

	links[endpoints[0]].Freeze()
	other := func(endpoint string) bool { return endpoint == endpoints[1] }
	retrytest.Succeeds(t, func() error { return names(other, other) })

	links[endpoints[1]].Freeze()
	retrytest.Succeeds(t, func() error {
		s, err := a.api.Agent(t.Context())
		if err == nil && (s.Catalog.Endpoint != "" || s.Session.State != api.SessionConnecting) {
			err = fmt.Errorf("watched at %q, and the session is %s, while no member answers", s.Catalog.Endpoint, s.Session.State)
		}
		return err
	})
	for _, link := range links {
		link.Mend() // or the agent waits for etcd as it stops
	}
}
