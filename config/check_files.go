package config

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
)

// Check returns an error, an [*Error], if the agent could not use what the settings name, or if the
// file looks cut off. It reads every certificate, token and password: such a file may exist, and
// have nothing that can be used.
func (c *Config) Check(ctx context.Context) error {
	problems := c.valueless()
	add := func(at origin, key string, err error) {
		for _, text := range flatten(err) { // some begin with the key
			problems = append(problems, problem{at, key, strings.TrimLeft(strings.TrimPrefix(text, key), ": ")})
		}
	}
	setting := func(key string, err error) { add(c.origins[key], key, err) }
	_, err := c.HTTP.Policy(ctx)
	setting("http.token_file", err)
	if c.HTTP.TLS.Cert != "" {
		_, err = c.HTTP.TLS.Load(ctx)
		setting("http.tls.cert", err)
	}
	if c.HTTP.ClientCA != "" {
		_, err = c.HTTP.ClientCAs(ctx)
		setting("http.tls.client_ca", err)
	}
	if c.Etcd.UsesTLS() {
		setting("etcd.cacert", trustCAs(ctx, &tls.Config{}, c.Etcd.CACert))
	}
	if c.Etcd.UsesTLS() && c.Etcd.Cert != "" {
		setting("etcd.cert", useCertificate(ctx, &tls.Config{}, TLS{c.Etcd.Cert, c.Etcd.Key}))
	}
	_, _, err = c.Etcd.Credentials(ctx)
	setting("etcd.password_file", err)
	for n, r := range c.Services {
		for m, check := range r.Checks {
			if file, path := check.CAFile(), caPath(fmt.Sprintf("services[%d]", n), m); file != "" {
				_, err = readCAs(ctx, file)
				add(c.caOrigins[path], path, err)
			}
		}
	}
	return joined(problems)
}
