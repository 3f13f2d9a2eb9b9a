package access

import (
	"crypto/subtle"
	"crypto/x509"
	"strings"
	"sync/atomic"

	"disc/discovery"
)

// MaxTokens is the most tokens of a policy: each unknown token is compared with all.
const MaxTokens = 256

// Anonymous is the name of callers without a token and without a certificate.
const Anonymous = "anonymous"

// Token is a named token.
type Token struct {
	Name   string  `yaml:"name"`
	SHA256 Digest  `yaml:"sha256"`
	Scopes []Scope `yaml:"scopes"`
}

// Client is who has a client certificate. Name is that of the certificate, see
// [CertificateName]; "*" is each certificate, and a URI that ends in "/*" each below it.
type Client struct {
	Name   string  `yaml:"name"`
	Scopes []Scope `yaml:"scopes"`
}

// ValidateName returns an ErrInvalid unless s may name a token: 1 to 128 letters, digits,
// '-', '_', '.' and ':', of which the first is a letter or digit, and not "anonymous".
func ValidateName(s string) error {
	switch {
	case s == "":
		return discovery.Errorf(discovery.ErrInvalid, "name is missing; it says in the log who did what")
	case s == Anonymous:
		return discovery.Errorf(discovery.ErrInvalid, "name %q means callers without a token; give another", s)
	case discovery.ValidateID(s) != nil:
		return discovery.Errorf(discovery.ErrInvalid, "name %.40q is not valid; give 1 to 128 letters, digits or - _ . : and begin with a letter or digit", s)
	}
	return nil
}

// ValidateClient returns an ErrInvalid unless s may name a [Client].
func ValidateClient(s string) error {
	switch star := strings.IndexByte(s, '*'); {
	case s == "":
		return discovery.Errorf(discovery.ErrInvalid, "name is missing; give the URI or the common name of the certificate")
	case star >= 0 && s != "*" && !(star == len(s)-1 && strings.HasSuffix(s, "/*") && isURI(s)):
		return discovery.Errorf(discovery.ErrInvalid, "name %.80q: a star stands alone, for every certificate, or after the last slash of a URI, as in spiffe://example.org/prod/*", s)
	}
	return nil
}

// CertificateName returns the name of a client certificate: its URI (such as a SPIFFE ID), or
// its common name if it has no URI. "": it has neither, or several URIs, or a common name that
// looks like a URI.
func CertificateName(c *x509.Certificate) string {
	switch {
	case len(c.URIs) == 1:
		return c.URIs[0].String()
	case len(c.URIs) > 1 || isURI(c.Subject.CommonName):
		return ""
	}
	return c.Subject.CommonName
}

func isURI(name string) bool { return strings.Contains(name, "://") }

// Policy says who may do what. It does not change.
type Policy struct {
	tokens    []identity
	digests   []Digest // of tokens
	clients   map[string]*identity
	patterns  []pattern
	anonymous identity
}

// identity is an entry of a policy.
type identity struct {
	name   string
	scopes *scopes
}

// pattern is a client whose name ends in a star.
type pattern struct {
	prefix string
	identity
}

// NewPolicy returns a policy. anonymous are the scopes of callers without a token and without
// a certificate.
func NewPolicy(tokens []Token, clients []Client, anonymous []Scope) *Policy {
	p := &Policy{clients: map[string]*identity{}, anonymous: identity{Anonymous, newScopes(anonymous)}}
	for _, t := range tokens {
		p.tokens = append(p.tokens, identity{t.Name, newScopes(t.Scopes)})
		p.digests = append(p.digests, t.SHA256)
	}
	for _, c := range clients {
		i := identity{c.Name, newScopes(c.Scopes)}
		if prefix, ok := strings.CutSuffix(c.Name, "*"); ok {
			p.patterns = append(p.patterns, pattern{prefix, i})
		} else {
			p.clients[c.Name] = &i
		}
	}
	return p
}

// Credentials are what a request shows of its caller.
type Credentials struct {
	Token       string            // "": none
	Certificate *x509.Certificate // verified; nil: none
}

// Allowed reports whether a caller without credentials may do an action on a subject.
func (p *Policy) Allowed(a Action, subject string) bool { return p.anonymous.scopes.allow(a, subject) }

// Anonymous returns the caller without credentials.
func (p *Policy) Anonymous() Caller {
	return Caller{Name: Anonymous, Entry: Anonymous, everybody: p.anonymous.scopes}
}

// Authorize returns the caller of a request, or a [*DeniedError] that says why the action on
// the subject, "" is everything, is refused. What everybody may do is not refused to a caller
// with a scope less, but a token that is not known is.
func (p *Policy) Authorize(c Credentials, a Action, subject string) (Caller, error) {
	caller, ok := p.identify(c)
	if !ok {
		return Caller{}, &DeniedError{Action: a, Subject: subject, UnknownToken: true}
	}
	return caller, caller.Check(a, subject)
}

// AuthorizeSome is [Policy.Authorize] for a request whose subject shows only later: the action
// has to be allowed on one subject at least.
func (p *Policy) AuthorizeSome(c Credentials, a Action) (Caller, error) {
	caller, ok := p.identify(c)
	switch {
	case !ok:
		return Caller{}, &DeniedError{Action: a, UnknownToken: true}
	case !caller.allowsSome(a):
		return caller, &DeniedError{Caller: caller, Action: a}
	}
	return caller, nil
}

// identify returns the caller with some credentials; a token goes before a certificate. It
// returns false for a token that is not known.
func (p *Policy) identify(c Credentials) (Caller, bool) {
	everybody := p.anonymous.scopes
	switch {
	case c.Token != "":
		i := p.token(c.Token)
		if i == nil {
			return Caller{}, false
		}
		return Caller{Name: i.name, Entry: i.name, By: ByToken, own: i.scopes, everybody: everybody}, true
	case c.Certificate != nil:
		caller := Caller{Name: CertificateName(c.Certificate), By: ByCertificate, everybody: everybody}
		if i := p.client(caller.Name); i != nil {
			caller.Entry, caller.own = i.name, i.scopes
		}
		return caller, true
	}
	return p.Anonymous(), true
}

// token returns the entry of a token; nil: there is none. It compares all entries, so that
// the time does not depend on which one it is.
func (p *Policy) token(token string) *identity {
	d := DigestOf(token)
	found := -1
	for n := range p.digests {
		if subtle.ConstantTimeCompare(d[:], p.digests[n][:]) == 1 {
			found = n
		}
	}
	if found < 0 {
		return nil
	}
	return &p.tokens[found]
}

// client returns the entry of a certificate: that of its name, or else the longest pattern;
// nil: there is none.
func (p *Policy) client(name string) *identity {
	if i, ok := p.clients[name]; ok && name != "" {
		return i
	}
	var best *pattern
	for n := range p.patterns {
		if c := &p.patterns[n]; strings.HasPrefix(name, c.prefix) && (best == nil || len(c.prefix) > len(best.prefix)) {
			best = c
		}
	}
	if best == nil {
		return nil
	}
	return &best.identity
}

// Authenticator holds the policy in force. The nil one, and the zero value, have none: every
// caller is [Unrestricted].
type Authenticator struct{ policy atomic.Pointer[Policy] }

// Set replaces the policy; nil is none.
func (a *Authenticator) Set(p *Policy) { a.policy.Store(p) }

// Policy returns the policy in force; nil is none.
func (a *Authenticator) Policy() *Policy {
	if a == nil {
		return nil
	}
	return a.policy.Load()
}
