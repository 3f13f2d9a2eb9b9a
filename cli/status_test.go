package cli

import (
	"strings"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// The status says who holds the feature level back, and whether this agent is behind it.
func TestLevelRows(t *testing.T) {
	t.Parallel()
	seen := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		level api.Level
		want  []string
	}{
		"raised":             {api.Level{Own: 2, Namespace: 2}, []string{"level|2|this agent reads 2"}},
		"not known":          {api.Level{Own: 2}, []string{"level|unknown|this agent reads 2"}},
		"an agent of 0.1.0":  {api.Level{}, []string{"level|1|this agent does not say which level it reads: it is of version 0.1.0"}},
		"this one is behind": {api.Level{Own: 2, Namespace: 3}, []string{"level|3|this agent reads 2; upgrade it: it can misread what others write"}},
		"rising": {api.Level{Own: 2, Namespace: 1, Target: 2, RaisedWithin: discovery.Duration(time.Hour)},
			[]string{"level|1|this agent reads 2; the namespace rises within 1h if no older agent is seen"}},
		"held back": {api.Level{Own: 2, Namespace: 1, Target: 2, RaisedWithin: discovery.Duration(time.Hour), More: 3,
			Behind: []discovery.BehindAgent{{Node: "n\x1b[31m", Agent: "a", Version: "dev", Level: 1, Seen: seen}}},
			[]string{"level|1|this agent reads 2; the namespace rises to 2 a day after the last older agent was seen",
				"||agent a on node n\ufffd[31m, version dev, reads level 1; last seen 2026-01-02T03:04:05Z", "||and 3 more agents"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, row := range append([][]string{levelRow(c.level)}, behindRows(c.level)...) {
				got = append(got, strings.Join(row, "|"))
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// The status says what is so during an outage.
func TestSessionAndCatalogRows(t *testing.T) {
	t.Parallel()
	const ttl = discovery.Duration(15 * time.Second)
	for want, got := range map[string][]string{
		"etcd|a:2379,b:2379|namespace default": etcdRow(api.Agent{Endpoints: []string{"a:2379", "b:2379"}, Namespace: "default"}),
		"etcd|a:2379,b:2379|namespace default; watched at a:2379 (member 8e9e05c52164694d); lease renewed at b:2379": etcdRow(api.Agent{
			Endpoints: []string{"a:2379", "b:2379"}, Namespace: "default", Session: api.Session{Endpoint: "b:2379"}, Catalog: api.Catalog{Endpoint: "a:2379", Member: "8e9e05c52164694d"}}),
		"etcd||namespace default; watched at member 1f": etcdRow(api.Agent{Namespace: "default", Catalog: api.Catalog{Member: "1f"}}),
		"session|connecting":                            sessionRow(api.Session{State: api.SessionConnecting, TTL: ttl}),
		"session|alive|lease 1f, ttl 15s, renewed 3s ago": sessionRow(
			api.Session{State: api.SessionAlive, Lease: "1f", TTL: ttl, LastKeepalive: discovery.Duration(3 * time.Second)}),
		"session|connecting|lease 1f expires soon: ttl 15s, not renewed for 13s; no lock or claim relies on it": sessionRow(
			api.Session{State: api.SessionConnecting, Lease: "1f", TTL: ttl, LastKeepalive: discovery.Duration(13 * time.Second)}),
		"session|connecting|lease 1f may have expired: ttl 15s, not renewed for 22s": sessionRow(
			api.Session{State: api.SessionConnecting, Lease: "1f", TTL: ttl, LastKeepalive: discovery.Duration(22 * time.Second)}),
		"catalog|unavailable|etcd has not been read yet, and there is no saved view": catalogRow(api.Catalog{}),
		"catalog|stale|revision 7, 30s old; 1 service, 2 instances, 3 nodes": catalogRow(
			api.Catalog{Synced: true, Stale: true, Revision: 7, Age: discovery.Duration(30 * time.Second), Services: 1, Instances: 2, Nodes: 3}),
	} {
		if strings.Join(got, "|") != want {
			t.Errorf("got %q, want %q", strings.Join(got, "|"), want)
		}
	}
}
