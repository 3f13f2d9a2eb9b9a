package config

import (
	"errors"
	"testing"

	"github.com/spf13/pflag"

	"disc/discovery"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "zone: a\n", "etcd: {endpoints: [a:1, 'https://b:2']}\n", "catalog: {watch: [a], panic: .5}\n",
		"services:\n- &s {service: web, port: 80, meta: {Team: core}, checks: [{type: ttl, ttl: 1s}]}\n- *s\n",
		"services: &a [*a]\n", "a: &a [*a]\n? *a\n: b\n", "dns: {domain: X.y., ttl: 1s}\n---\n", "zone: !!binary aGk=\nnode: ~\n",
	} {
		f.Add([]byte(seed))
	}
	host := Host{Hostname: "host-1", EUID: 1000, Env: func(string) (string, bool) { return "", false }}
	l := loader{pflag.NewFlagSet("disc", pflag.ContinueOnError), host, map[string]string{"node": "host-1", "data_dir": "/data"}}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := l.build("config.yaml", data)
		if err != nil {
			if c != nil || !errors.Is(err, discovery.ErrInvalid) || err.Error() == "" {
				t.Fatalf("%v is no proper error", err)
			}
			return
		}
		for _, r := range c.Services {
			if err := r.WithDefaults("127.0.0.1", "").Validate(); err != nil {
				t.Fatalf("an invalid service was accepted: %v", err)
			}
		}
		if len(c.Etcd.Endpoints) == 0 || c.Node == "" || len(c.Settings()) < len(settings()) {
			t.Fatalf("an impossible configuration was accepted: %+v", c)
		}
	})
}
