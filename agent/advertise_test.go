package agent

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"disc/config"
)

func TestAdvertised(t *testing.T) {
	for _, test := range []struct {
		name, configured string
		endpoints        []string
		want             string // "": refused
	}{
		{"etcd on loopback", "", []string{"http://127.0.0.1:2379"}, "127.0.0.1"},
		{"etcd on loopback, without a port", "", []string{"localhost"}, "127.0.0.1"},
		{"etcd on a socket", "", []string{"unix:///run/etcd.sock"}, "127.0.0.1"},
		{"configured", "10.0.0.5", []string{"https://10.0.0.1:2379"}, "10.0.0.5"},
		{"a name", "host-1.example", []string{"10.0.0.1:2379"}, "host-1.example"},
		{"loopback, etcd elsewhere", "127.0.0.1", []string{"10.0.0.1:2379"}, ""},
		{"localhost, etcd elsewhere", "localhost", []string{"127.0.0.1:2379", "10.0.0.1:2379"}, ""},
		{"IPv6 loopback, etcd elsewhere", "::1", []string{"[fd00::1]:2379"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := advertised(t.Context(), test.configured, test.endpoints)
			if (err != nil) != (test.want == "") || err == nil && got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// A restarted agent without a route to etcd uses the saved address.
func TestAddressIsSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	lost := config.Config{Etcd: config.Etcd{Endpoints: []string{"no host has a space:2379"}}}
	a := Agent{config: &lost, dir: dir(t, path), log: log}
	if got, err := a.advertiseAddress(t.Context()); !errors.Is(err, errNoRoute) {
		t.Fatalf("at the first start: %q, %v; want a refusal", got, err)
	}
	a.dir.saveAddress("127.0.0.1")
	if got, err := a.advertiseAddress(t.Context()); err == nil {
		t.Errorf("took %q, which others cannot reach", got)
	}
	a.dir.saveAddress("10.0.0.5")
	if got, err := a.advertiseAddress(t.Context()); err != nil || got != "10.0.0.5" {
		t.Errorf("later: %q, %v; want the saved one", got, err)
	}
	a.config = &config.Config{Etcd: config.Etcd{Endpoints: []string{"127.0.0.1:2379"}}}
	if got, err := a.advertiseAddress(t.Context()); err != nil || got != "127.0.0.1" || a.dir.address() != got {
		t.Errorf("found %q, %v, and saved %q", got, err, a.dir.address())
	}
}
