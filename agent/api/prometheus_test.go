package api_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

func TestTargetGroups(t *testing.T) {
	keys := discovery.NewKeys("default")
	var changes []view.Change
	add := func(key string, value string) {
		changes = append(changes, view.Change{Key: keys.Parse(key), Value: []byte(value), Modified: int64(len(changes) + 1)})
	}
	add(keys.Instance("web", "web-2"), `{"service":"web","id":"web-2","address":"::1","port":80,"status":"critical"}`)
	add(keys.Instance("web", "web-1"), `{"service":"web","id":"web-1","node":"n1","zone":"a","address":"10.0.0.1","port":80,"ports":{"admin-x":81},"tags":["v2","eu"],"meta":{"Team.name":"core","a.b":"1","a-b":"2","x-y":"3","x_y":"4"}}`)
	add(keys.Instance("web", "web-3"), `{"service":"web","id":"web-3","address":"10.0.0.3","port":80}`)
	add(keys.Override("web", "web-3"), `{"state":"down"}`)
	add(keys.Instance("db", "db-1"), `{"service":"db","id":"db-1","address":"10.0.0.9","port":5432}`)
	add(keys.Instance("db", "db-2"), `{"service":"db","id":"db-2","address":"10.0.0.8"}`)
	s, _, broken := view.EmptySnapshot().Apply(10, changes)
	if len(broken) > 0 {
		t.Fatal(broken)
	}
	got := api.TargetGroups(s, api.TargetOptions{Services: []string{"WEB"}})
	want := []api.TargetGroup{
		{Targets: []string{"10.0.0.1:80"}, Labels: map[string]string{
			"__meta_disc_service": "web", "__meta_disc_instance": "web-1", "__meta_disc_node": "n1", "__meta_disc_zone": "a",
			"__meta_disc_status": "passing", "__meta_disc_state": "up", "__meta_disc_tags": ",v2,eu,",
			"__meta_disc_meta_Team_name": "core", "__meta_disc_meta_a_b": "2", "__meta_disc_meta_x_y": "4", "__meta_disc_port_admin_x": "81"}},
		{Targets: []string{"[::1]:80"}, Labels: map[string]string{
			"__meta_disc_service": "web", "__meta_disc_instance": "web-2", "__meta_disc_node": "", "__meta_disc_zone": "",
			"__meta_disc_status": "critical", "__meta_disc_state": "up", "__meta_disc_tags": ""}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, o := range map[string]struct {
		api.TargetOptions
		want int
	}{
		"all":     {api.TargetOptions{}, 3},
		"passing": {api.TargetOptions{Status: discovery.Passing}, 2},
		"port":    {api.TargetOptions{Selector: lookup.Selector{Port: "admin-x"}}, 1},
		"tag":     {api.TargetOptions{Selector: lookup.Selector{Tags: []string{"eu"}}}, 1},
		"none":    {api.TargetOptions{Services: []string{"none"}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := api.TargetGroups(s, o.TargetOptions); len(got) != o.want || got == nil {
				t.Errorf("%s: %v, want %d", name, got, o.want)
			}
		})
	}
}
