package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
)

// checker checks parsed settings against each other and against the files of the host.
type checker struct {
	*Config
	*file           // collects the problems
	read  []problem // those found by reading the file
}

// add records the problems of a setting, unless it already has one.
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
	c.pair("cli.cert", c.CLI.Cert, "cli.key", c.CLI.Key)
	c.endpoints()
	c.credentials()
	c.listening()
}

// files checks that the files that settings name exist. It does not require them to be
// readable: a user's CLI may share the config file of an agent that has more rights.
func (c *checker) files() {
	for _, s := range settings() {
		path := s.show(c.Config)
		if !s.isFile || path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			err = invalid("%s is a directory", path)
		}
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			c.add(s.key, err)
		}
	}
}

// pair requires both or neither of a certificate and its key.
func (c *checker) pair(certKey, cert, keyKey, key string) {
	if cert != "" && key == "" {
		c.add(certKey, invalid("set %s too", keyKey))
	}
	if key != "" && cert == "" {
		c.add(keyKey, invalid("set %s too", certKey))
	}
}

// endpoints refuses a mix of endpoints with and without TLS, and TLS settings that have no
// effect because the endpoints are without TLS.
func (c *checker) endpoints() {
	secure, plain := 0, 0
	for _, e := range c.Etcd.Endpoints {
		if scheme, _ := splitScheme(e); isSecure(scheme) {
			secure++
		} else if scheme != "" {
			plain++
		}
	}
	switch all := c.Etcd.Endpoints; {
	case len(all) == 0:
		c.add("etcd.endpoints", invalid("the list is empty; give at least one endpoint"))
	case secure > 0 && secure < len(all):
		c.add("etcd.endpoints", invalid("%s mixes endpoints with and without TLS; write all with https:// or none", strings.Join(all, ",")))
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
		c.add("etcd.password_file", invalid("the password has no user; give --user"))
	case e.User != "" && e.Password == "" && e.PasswordFile == "":
		c.add("etcd.user", invalid("user %s has no password; give --password-file", e.User))
	case e.Password != "" && e.PasswordFile != "":
		c.add("etcd.user", invalid("user %s has a password and a password file; give only one", e.User))
	}
}

func (c *checker) listening() {
	h := c.HTTP
	if h.Listen == "" && h.Socket == "" {
		c.add("http.listen", invalid("the agent would listen nowhere; give an address, or http.socket"))
	}
	c.add("http.listen", h.CheckListen())
	c.clientCA()
	if g := c.GRPC.Listen; g != "" && !isLoopback(g) {
		c.add("grpc.listen", invalid("%s is reachable from other hosts, and gRPC has neither TLS nor a token: give a loopback address, such as 127.0.0.1:18000", g))
	}
}

// raiseLogLevel sets the log's level to debug if --verbose is given.
func (c *Config) raiseLogLevel() {
	if c.CLI.Verbose && c.Log.Level > slog.LevelDebug {
		c.Log.Level, c.origins["log.level"] = slog.LevelDebug, c.origins["cli.verbose"]
	}
}
