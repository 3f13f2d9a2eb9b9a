package config_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"disc/discovery"
)

var update = flag.Bool("update", false, "write the golden files")

func TestServices(t *testing.T) {
	c := load(t, `
zone: a
node: host-7
services:
  - service: Web
    port: 8080
    ports: {gRPC: 9090}
    tags: [v2, Blue]
    weight: 0
    meta: {Team: core, HTTP.Path: /, Version: 1.20}
    checks:
      - &probe {type: http, url: "http://127.0.0.1:8080/", interval: 1s, headers: {X-Probe: Yes}}
      - {type: exec, command: [/usr/local/bin/probe, --quick]}
  - {service: api, id: one, address: db.internal, zone: b, port: 1, checks: [*probe, *probe]}
`, nil, "--advertise", "10.0.0.5")
	zero := 0
	second, ten := discovery.Duration(time.Second), discovery.Duration(10*time.Second)
	probe := discovery.CheckSpec{ID: "http", Type: "http", URL: "http://127.0.0.1:8080/", Method: "GET",
		Headers: map[string]string{"X-Probe": "Yes"}, Interval: second, Timeout: second, SuccessThreshold: 1, FailureThreshold: 2}
	again := probe
	again.ID = "http-2"
	want := []discovery.Registration{
		{Service: "Web", ID: "Web-host-7", Address: "10.0.0.5", Zone: "a", Port: 8080, Ports: discovery.Ports{"gRPC": 9090},
			Tags: discovery.Tags{"v2", "Blue"}, Weight: &zero,
			Meta: discovery.Meta{"Team": "core", "HTTP.Path": "/", "Version": "1.20"},
			Checks: []discovery.CheckSpec{probe, {ID: "exec", Type: "exec", Command: []string{"/usr/local/bin/probe", "--quick"},
				Interval: ten, Timeout: ten / 2, SuccessThreshold: 1, FailureThreshold: 2}}},
		{Service: "api", ID: "one", Address: "db.internal", Zone: "b", Port: 1, Checks: []discovery.CheckSpec{probe, again}},
	}
	if diff := cmp.Diff(want, c.Services); diff != "" {
		t.Error(diff)
	}
}

// TestMergeKeys has what services share in one place.
func TestMergeKeys(t *testing.T) {
	c := load(t, `
x-common: &common {tags: [shared], meta: {team: core}, port: 80}
x-zone: &zone {zone: b, port: 81, x-note: {any: thing}}
http: {x-note: 1, <<: {listen: "127.0.0.1:9"}}
services:
  - {<<: *common, service: web, meta: {team: web}}
  - {service: api, <<: [*zone, *common]}
  - <<: *common
    <<: *zone
    service: db
    port: 5432
`, nil, "--advertise", "10.0.0.5")
	var got []string
	for _, s := range c.Services {
		got = append(got, fmt.Sprint(s.Service, s.Port, s.Zone, s.Tags, s.Meta))
	}
	want := []string{"web80[shared] map[team:web]", "api81b[shared] map[team:core]", "db5432b[shared] map[team:core]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := c.HTTP.Listen; got != "127.0.0.1:9" {
		t.Errorf("http.listen is %s", got)
	}
}

// TestServiceWithoutAddress expects no address if none is configured; the agent determines
// it later.
func TestServiceWithoutAddress(t *testing.T) {
	c := load(t, "services: [{service: web, port: 80}]\n", nil)
	if got := c.Services[0]; got.Address != "" || got.ID != "web-host-1" {
		t.Errorf("got %+v", got)
	}
}

func TestSettingsListing(t *testing.T) {
	c := load(t, `namespace: shop
etcd:
  endpoints:
    - https://etcd-1:2379/
    - https://etcd-2:2379
  user: disc:hunter2
dns: {domain: SD.Example.com}
services:
  - {service: web, port: 80}
  - {service: api, id: api-1}
`, map[string]string{"DISC_ZONE": "a", "DISC_HTTP_ALLOW_HOSTS": "one.example, two.example"},
		"--http", "[::1]:0", "-o", "template={{.id}}", "--data-dir", "/data")
	var b strings.Builder
	for _, s := range c.Settings() {
		line := strings.ReplaceAll(s.Key+" = "+s.Value+"  ("+s.Origin+")\n", filepath.Dir(c.File), "/etc/disc")
		b.WriteString(line)
	}
	golden(t, "settings.golden", b.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}
