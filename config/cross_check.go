package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
)

// checker judges settings that were parsed one by one: what they say together, and of
// the host.
type checker struct {
	*Config
	problems []problem
}

// add tells what is wrong with a setting, unless something already is.
func (c *checker) add(key string, err error) {
	if slices.ContainsFunc(c.problems, func(p problem) bool { return p.key == key }) {
		return
	}
	for _, text := range flatten(err) {
		c.problems = append(c.problems, problem{c.origins[key], key, text})
	}
}

func (c *checker) settings() {
	c.files()
	c.pair("etcd.cert", c.Etcd.Cert, "etcd.key", c.Etcd.Key)
	c.pair("http.tls.cert", c.HTTP.TLS.Cert, "http.tls.key", c.HTTP.TLS.Key)
	c.endpoints()
	c.credentials()
	c.listening()
}

// files looks for the files that settings name. Whether they may be read is seen by who
// reads them: a user's CLI shares the file of an agent with more rights.
func (c *checker) files() {
	for _, f := range []struct{ key, path string }{
		{"cli.cacert", c.CLI.CACert},
		{"etcd.cacert", c.Etcd.CACert},
		{"etcd.cert", c.Etcd.Cert},
		{"etcd.key", c.Etcd.Key},
		{"etcd.password_file", c.Etcd.PasswordFile},
		{"http.token_file", c.HTTP.TokenFile},
		{"http.tls.cert", c.HTTP.TLS.Cert},
		{"http.tls.key", c.HTTP.TLS.Key},
	} {
		if f.path == "" {
			continue
		}
		info, err := os.Stat(f.path)
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			c.add(f.key, err)
		}
		if err == nil && info.IsDir() {
			c.add(f.key, invalid("%s is a directory", f.path))
		}
	}
}

// pair wants both or neither of a certificate and its key.
func (c *checker) pair(certKey, cert, keyKey, key string) {
	if cert != "" && key == "" {
		c.add(certKey, invalid("set %s too", keyKey))
	}
	if key != "" && cert == "" {
		c.add(keyKey, invalid("set %s too", certKey))
	}
}

// endpoints refuses a mixture of encrypted and other connections, and what would be
// encrypted by intent but not in fact.
func (c *checker) endpoints() {
	secure, plain, open := 0, 0, 0
	for _, e := range c.Etcd.Endpoints {
		switch scheme, _ := splitScheme(e); {
		case scheme == "":
			open++
		case isSecure(scheme):
			secure++
		default:
			plain++
		}
	}
	all := strings.Join(c.Etcd.Endpoints, ",")
	switch {
	case secure+plain+open == 0:
		c.add("etcd.endpoints", invalid("the list is empty; give at least one endpoint"))
	case secure > 0 && plain+open > 0:
		c.add("etcd.endpoints", invalid("%s mixes endpoints with and without TLS; write all with https:// or none", all))
	case plain > 0:
		c.unused("etcd.cacert", c.Etcd.CACert)
		c.unused("etcd.cert", c.Etcd.Cert)
		c.unused("etcd.server_name", c.Etcd.ServerName)
	}
}

func (c *checker) unused(key, value string) {
	if value != "" {
		c.add(key, invalid("has no effect: etcd.endpoints are without TLS; write them with https://"))
	}
}

func (c *checker) credentials() {
	e := c.Etcd
	switch {
	case e.User == "" && e.PasswordFile != "":
		c.add("etcd.password_file", invalid("there is no user to the password; give --user"))
	case e.User != "" && e.Password == "" && e.PasswordFile == "":
		c.add("etcd.user", invalid("there is no password for user %s; give --password-file", e.User))
	case e.Password != "" && e.PasswordFile != "":
		c.add("etcd.user", invalid("user %s has a password and a password file; give only one", e.User))
	}
}

func (c *checker) listening() {
	h := c.HTTP
	if h.Listen == "" && h.Socket == "" {
		c.add("http.listen", invalid("the agent would listen nowhere; give an address, or http.socket"))
	}
	if h.Listen != "" && !isLoopback(h.Listen) && h.TokenFile == "" && (h.TLS.Cert == "" || h.TLS.Key == "") {
		c.add("http.listen", invalid("%s is reachable from other hosts: set http.tls.cert and http.tls.key, or http.token_file", h.Listen))
	}
	if g := c.GRPC.Listen; g != "" && !isLoopback(g) {
		c.add("grpc.listen", invalid("%s is reachable from other hosts, and gRPC has neither TLS nor a token: give a loopback address, such as 127.0.0.1:18000", g))
	}
}

// raiseLogLevel makes --verbose show in the log.
func (c *Config) raiseLogLevel() {
	if c.CLI.Verbose && c.Log.Level > slog.LevelDebug {
		c.Log.Level, c.origins["log.level"] = slog.LevelDebug, c.origins["cli.verbose"]
	}
}
