package config

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"disc/agent/access"
	"disc/config/input"
)

// tokenFileName is the name of the token of http.token_file.
const tokenFileName = "token_file"

// Restricted reports whether the agent has a policy: tokens or clients, or a list of what
// callers without them may do.
func (h HTTP) Restricted() bool {
	return h.AnonymousSet || h.TokenFile != "" || len(h.Tokens) > 0 || len(h.Clients) > 0
}

// Policy returns who may do what; nil: there is no restriction. It reads TokenFile, if set,
// and fails if that cannot be read or is empty.
func (h HTTP) Policy(ctx context.Context) (*access.Policy, error) {
	if !h.Restricted() {
		return nil, nil
	}
	anonymous := h.Anonymous
	if !h.AnonymousSet {
		anonymous = []access.Scope{{Action: access.Read}}
	}
	var tokens []access.Token
	if h.TokenFile != "" {
		token, err := h.Token(ctx)
		if err != nil {
			return nil, err
		}
		if token == "" {
			return nil, fmt.Errorf("http.token_file %s is empty: write a token into it", h.TokenFile)
		}
		tokens = append(tokens, access.Token{Name: tokenFileName, SHA256: access.DigestOf(token), Scopes: []access.Scope{{}}})
	}
	return access.NewPolicy(append(tokens, h.Tokens...), h.Clients, anonymous), nil
}

// Token reads the token from TokenFile, without the white space around it. It fails when the
// file cannot be read.
func (h HTTP) Token(ctx context.Context) (string, error) {
	return readToken(ctx, "http.token_file", h.TokenFile)
}

func readToken(ctx context.Context, setting, file string) (string, error) {
	b, err := input.ReadFile(ctx, file, input.MaxSecret)
	if err != nil {
		return "", fmt.Errorf("%s: %w", setting, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// ClientCAs reads the certificates of ClientCA.
func (h HTTP) ClientCAs(ctx context.Context) (*x509.CertPool, error) {
	return readCAs(ctx, h.ClientCA)
}

// AgentToken returns the token that the command line sends to the agent: that of cli.token or
// cli.token_file, of which a flag goes before a variable and cli.token before the other; or
// else of http.token_file, the agent's own; "": there is none. It fails when a file cannot be
// read, and when that of cli.token_file is empty.
func (c *Config) AgentToken(ctx context.Context) (string, error) {
	flagOfFile := c.CLI.TokenFile != "" && c.origins["cli.token_file"].source == fromFlag && c.origins["cli.token"].source != fromFlag
	switch {
	case c.CLI.Token != "" && !flagOfFile:
		return string(c.CLI.Token), nil
	case c.CLI.TokenFile != "":
		token, err := readToken(ctx, "cli.token_file", c.CLI.TokenFile)
		if err == nil && token == "" {
			err = fmt.Errorf("cli.token_file %s is empty: write a token into it", c.CLI.TokenFile)
		}
		return token, err
	case c.HTTP.TokenFile != "":
		return c.HTTP.Token(ctx)
	}
	return "", nil
}

// CheckListen returns an error if Listen is reachable from other hosts, without TLS or without
// a policy, and nothing says that this is meant.
func (h HTTP) CheckListen() error {
	if h.Listen == "" || isLoopback(h.Listen) {
		return nil
	}
	var errs []error
	if (h.TLS.Cert == "" || h.TLS.Key == "") && !h.AllowPlaintext {
		errs = append(errs, invalid("%s is reachable from other hosts, without TLS: set http.tls.cert and http.tls.key; or set http.allow_plaintext, if others on the network may read and change what is sent, tokens too", h.Listen))
	}
	if !h.Restricted() {
		errs = append(errs, invalid("%s is reachable from other hosts, which could write: set http.tokens, http.token_file or http.clients; or list in http.anonymous what every host may do, such as [read]", h.Listen))
	}
	return errors.Join(errs...)
}

// clientCA requires both or neither of clients and the CA that verifies their certificates.
func (c *checker) clientCA() {
	h := c.HTTP
	switch {
	case h.ClientCA != "" && h.TLS.Cert == "":
		c.add("http.tls.client_ca", invalid("has no effect without TLS; set http.tls.cert and http.tls.key"))
	case h.ClientCA != "" && len(h.Clients) == 0:
		c.add("http.tls.client_ca", invalid("has no effect: http.clients is empty; list there whose certificates may do what"))
	case h.ClientCA == "" && len(h.Clients) > 0:
		c.list("http.clients", "", "set http.tls.client_ca too, the CA certificates that verify those of the clients")
	}
}

// access checks the tokens and clients of the file and adds them to the Config.
func (c *checker) access() {
	if len(c.file.tokens) > access.MaxTokens {
		c.list("http.tokens", "", fmt.Sprintf("%d tokens are too many; at most %d are allowed", len(c.file.tokens), access.MaxTokens))
	}
	names, digests := map[string]int{tokenFileName: 0}, map[access.Digest]string{}
	for n, t := range c.file.tokens {
		path := fmt.Sprintf("http.tokens[%d]", n)
		c.entry(path, t.Name, names, access.ValidateName(t.Name), t.Scopes)
		switch other, twice := digests[t.SHA256]; {
		case t.SHA256 == access.Digest{}:
			c.list(path, "sha256", "sha256 is missing; 'disc token NAME' makes a token, and this entry")
		case twice:
			c.list(path, "sha256", fmt.Sprintf("%.40q has the same token; give each its own", other))
		}
		digests[t.SHA256] = t.Name
		c.tokenOrigins = append(c.tokenOrigins, c.at(c.lines[path]))
	}
	names = map[string]int{}
	for n, k := range c.file.clients {
		path := fmt.Sprintf("http.clients[%d]", n)
		c.entry(path, k.Name, names, access.ValidateClient(k.Name), k.Scopes)
		c.clientOrigins = append(c.clientOrigins, c.at(c.lines[path]))
	}
	c.HTTP.Tokens, c.HTTP.Clients = c.file.tokens, c.file.clients
}

// entry checks what tokens and clients have in common. names has the lines of earlier names.
func (c *checker) entry(path, name string, names map[string]int, err error, scopes []access.Scope) {
	line, twice := names[name]
	switch {
	case err != nil:
		c.list(path, "name", err.Error())
	case twice && line == 0:
		c.list(path, "name", fmt.Sprintf("name %q is that of the token in http.token_file; give another", name))
	case twice:
		c.list(path, "name", fmt.Sprintf("name %q is already in line %d; give each its own", name, line))
	default:
		names[name] = c.lines[path]
	}
	if len(scopes) == 0 {
		c.list(path, "scopes", "scopes is missing; list all, or some of "+strings.Join(access.Words(), ", "))
	}
}

// list records a problem of an element of a list, at the line of a field if the element has
// it, unless reading the file has found one there.
func (c *checker) list(path, field, text string) {
	at := join(path, field)
	if field == "" || c.lines[at] == 0 {
		at = path
	}
	if !slices.ContainsFunc(c.read, func(p problem) bool { return p.key == at || strings.HasPrefix(p.key, at+"[") }) {
		c.problems = append(c.problems, problem{c.at(c.lines[at]), at, text})
	}
}
