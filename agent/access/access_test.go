package access_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"disc/agent/access"
	"disc/discovery"
)

func scopes(t *testing.T, texts ...string) []access.Scope {
	t.Helper()
	var list []access.Scope
	for _, text := range texts {
		s, err := access.ParseScope(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func TestScopes(t *testing.T) {
	for _, text := range []string{
		"all", "read", "status", "register", "register:web", "register:web-*", "operate", "kv-read", "kv-read:app/", "kv", "kv:app/config",
		"lock", "lock:a:b", "lock:deploy.*", "claim:gpu", "take:sms",
	} {
		t.Run(text, func(t *testing.T) {
			s, err := access.ParseScope(text)
			if err != nil || s.String() != text {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
	for text, want := range map[string]string{
		"":            `scope "" is unknown; use all, read, status, register, operate, kv-read, kv, lock, claim, take`,
		"open":        "is unknown",
		"write":       "is unknown",
		"all:web":     "is unknown",
		"read:web":    "read is for everything; leave out what follows the colon",
		"operate:web": "operate is for everything",
		"register:":   "write register alone for everything",
		"register:*":  "write register alone for everything",
		"register:-a": "begin with a letter or digit",
		"kv:app/*":    "write app/ for all keys below app",
		"kv:/app":     "is neither a key nor a directory",
		"kv:a\nb":     "is neither a key nor a directory",
		"lock:a/b":    "lock name",
		"take:a b":    "limit name",
	} {
		t.Run("bad "+text, func(t *testing.T) {
			if s, err := access.ParseScope(text); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, %v, want %s", s, err, want)
			}
		})
	}
}

func TestWhatScopesAllow(t *testing.T) {
	for _, c := range []struct {
		scope   string
		action  access.Action
		subject string
		want    bool
	}{
		{"read", access.Read, "", true},
		{"read", access.Status, "", false},
		{"read", access.KVRead, "a", false},
		{"register", access.Register, "web", true},
		{"register", access.Operate, "", false},
		{"register:web", access.Register, "web", true},
		{"register:Web", access.Register, "wEB", true},
		{"register:web", access.Register, "web2", false},
		{"register:web", access.Register, "", false},
		{"register:web-*", access.Register, "web-1", true},
		{"register:web-*", access.Register, "web", false},
		{"kv", access.KV, "", true},
		{"kv", access.KVRead, "", true},
		{"kv-read", access.KV, "a", false},
		{"kv-read:app/", access.KVRead, "app/a/b", true},
		{"kv:app/", access.KV, "app/", true},
		{"kv:app/", access.KVRead, "app/x", true},
		{"kv:app/", access.KV, "app", false},
		{"kv:app/", access.KV, "application", false},
		{"kv:app/", access.KV, "", false},
		{"kv:app/a", access.KV, "app/a", true},
		{"kv:app/a", access.KV, "app/ab", false},
		{"kv:app/a", access.KV, "app/a/b", false},
		{"kv:App/", access.KV, "app/a", false},
		{"lock:deploy.*", access.Lock, "deploy.web", true},
		{"lock:a", access.Lock, "A", false},
		{"take:sms", access.Take, "sms", true},
		{"take:sms", access.Take, "mail", false},
		{"all", access.Operate, "", true},
		{"all", access.KV, "", true},
		{"all", access.Take, "x", true},
		{"take", access.Open, "", true},
		{"all", access.Action(0), "", true},
		{"all", access.Action(200), "", false},
	} {
		t.Run(fmt.Sprintf("%s %v %q", c.scope, c.action, c.subject), func(t *testing.T) {
			if got := access.NewPolicy(nil, nil, scopes(t, c.scope)).Allowed(c.action, c.subject); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func certificate(name string, uris ...string) *x509.Certificate {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			panic(err)
		}
		c.URIs = append(c.URIs, parsed)
	}
	return c
}

func TestCallers(t *testing.T) {
	p := access.NewPolicy([]access.Token{
		{Name: "ci", SHA256: access.DigestOf("secret-1"), Scopes: scopes(t, "register:web", "operate")},
		{Name: "app", SHA256: access.DigestOf("secret-2"), Scopes: scopes(t, "kv:app/")},
	}, []access.Client{
		{Name: "spiffe://example.org/web", Scopes: scopes(t, "lock")},
		{Name: "spiffe://example.org/*", Scopes: scopes(t, "claim")},
		{Name: "host-1", Scopes: scopes(t, "take")},
	}, scopes(t, "read"))
	for _, c := range []struct {
		name            string
		by              access.Credentials
		action          access.Action
		subject         string
		caller, want    string // the error, or ""
		unauthenticated bool
	}{
		{"nobody reads", access.Credentials{}, access.Read, "", "anonymous", "", false},
		{"nobody writes", access.Credentials{}, access.Register, "web", "anonymous", `this needs a token with scope "register:web"`, true},
		{"a token", access.Credentials{Token: "secret-1"}, access.Register, "web", "ci", "", false},
		{"a token reads as everybody", access.Credentials{Token: "secret-2"}, access.Read, "", "app", "", false},
		{"another service", access.Credentials{Token: "secret-1"}, access.Register, "db", "ci", `token "ci" lacks scope "register:db"`, false},
		{"another action", access.Credentials{Token: "secret-2"}, access.Operate, "", "app", `token "app" lacks scope "operate"`, false},
		{"unknown", access.Credentials{Token: "secret-3"}, access.Read, "", "", "the token is not known to this agent", true},
		{"a prefix of a token", access.Credentials{Token: "secret-"}, access.Operate, "", "", "the token is not known", true},
		{"a URI", access.Credentials{Certificate: certificate("x", "spiffe://example.org/web")}, access.Lock, "a", "spiffe://example.org/web", "", false},
		{"a URI alone", access.Credentials{Certificate: certificate("host-1", "spiffe://example.org/web")}, access.Take, "a", "spiffe://example.org/web", `certificate "spiffe://example.org/web" lacks scope "take:a"`, false},
		{"below a URI", access.Credentials{Certificate: certificate("", "spiffe://example.org/db")}, access.Claim, "gpu", "spiffe://example.org/db", "", false},
		{"below another", access.Credentials{Certificate: certificate("", "spiffe://example.organic/db")}, access.Claim, "gpu", "spiffe://example.organic/db", "is not in http.clients", false},
		{"a common name", access.Credentials{Certificate: certificate("host-1")}, access.Take, "a", "host-1", "", false},
		{"a common name that passes for a URI", access.Credentials{Certificate: certificate("spiffe://example.org/web")}, access.Lock, "a", "", "is not in http.clients", false},
		{"two URIs", access.Credentials{Certificate: certificate("", "spiffe://example.org/web", "spiffe://example.org/db")}, access.Lock, "a", "", "is not in http.clients", false},
		{"a token before a certificate", access.Credentials{Token: "secret-2", Certificate: certificate("host-1")}, access.Take, "a", "app", `token "app" lacks scope "take:a"`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			caller, err := p.Authorize(c.by, c.action, c.subject)
			if caller.Name != c.caller {
				t.Errorf("caller %q, want %q", caller.Name, c.caller)
			}
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var denied *access.DeniedError
			if !errors.As(err, &denied) || !errors.Is(err, discovery.ErrForbidden) || !strings.Contains(err.Error(), c.want) || denied.Unauthenticated() != c.unauthenticated {
				t.Errorf("%v, want %s", err, c.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error has the token: %v", err)
			}
		})
	}
}

func TestSomeSubject(t *testing.T) {
	p := access.NewPolicy([]access.Token{{Name: "app", SHA256: access.DigestOf("secret"), Scopes: scopes(t, "kv:app/")}}, nil, scopes(t, "claim:web"))
	for _, c := range []struct {
		token  string
		action access.Action
		want   string
	}{
		{"secret", access.KV, ""},
		{"secret", access.KVRead, ""},
		{"secret", access.Claim, ""},
		{"", access.Claim, ""},
		{"secret", access.Lock, `token "app" lacks scope "lock"`},
		{"", access.KV, `this needs a token with scope "kv"`},
		{"other", access.Claim, "the token is not known"},
		{"secret", access.Action(200), "lacks scope"},
	} {
		t.Run(fmt.Sprint(c.token, c.action), func(t *testing.T) {
			if _, err := p.AuthorizeSome(access.Credentials{Token: c.token}, c.action); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestNobodyByDefault(t *testing.T) {
	var nobody access.Caller
	for a := access.Read; a <= access.Take; a++ {
		if nobody.Allows(a, "") || nobody.Allows(a, "x") {
			t.Errorf("the zero caller may %v", a)
		}
		if access.Unrestricted.Allows(a, "x") != (a != access.Operate) {
			t.Errorf("an unrestricted caller, %v: %v", a, access.Unrestricted.Allows(a, "x"))
		}
		if access.NewPolicy(nil, nil, nil).Allowed(a, "") {
			t.Errorf("without scopes, %v is allowed", a)
		}
	}
	var none *access.Authenticator
	if none.Policy() != nil {
		t.Error("the nil authenticator has a policy")
	}
}

func TestTokens(t *testing.T) {
	a, b := access.NewToken(), access.NewToken()
	if a == b || len(a) != len("disc_")+26 || !strings.HasPrefix(a, "disc_") {
		t.Errorf("%q, %q", a, b)
	}
	var d access.Digest
	if err := d.UnmarshalText([]byte(access.DigestOf(a).Hex())); err != nil || d != access.DigestOf(a) {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", a, strings.Repeat("0", 63), access.DigestOf("").Hex(), strings.Repeat("g", 64)} {
		t.Run(bad, func(t *testing.T) {
			err := d.UnmarshalText([]byte(bad))
			if !errors.Is(err, discovery.ErrInvalid) || bad != "" && strings.Contains(err.Error(), bad) {
				t.Errorf("%v", err)
			}
		})
	}
	for _, format := range []string{"%v", "%s", "%#v", "%+v"} {
		t.Run(format, func(t *testing.T) {
			if got := fmt.Sprintf(format, struct{ T access.Token }{access.Token{SHA256: d}}); strings.Contains(got, d.Hex()[:8]) {
				t.Errorf("%s", got)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"ci": true, "a:b-c_d.e": true, "": false, "anonymous": false, "a b": false, "-a": false} {
		t.Run("token "+name, func(t *testing.T) {
			if err := access.ValidateName(name); (err == nil) != ok {
				t.Error(err)
			}
		})
	}
	for name, ok := range map[string]bool{
		"host-1": true, "spiffe://a/b": true, "spiffe://a/*": true, "*": true,
		"": false, "spiffe://a*": false, "host-*": false, "spiffe://*/b": false, "/*": false,
	} {
		t.Run("client "+name, func(t *testing.T) {
			if err := access.ValidateClient(name); (err == nil) != ok {
				t.Error(err)
			}
		})
	}
}

// BenchmarkUnknownToken measures what a token that is not known costs.
func BenchmarkUnknownToken(b *testing.B) {
	var tokens []access.Token
	for n := range access.MaxTokens {
		tokens = append(tokens, access.Token{Name: fmt.Sprint("t", n), SHA256: access.DigestOf(fmt.Sprint(n))})
	}
	p := access.NewPolicy(tokens, nil, nil)
	for b.Loop() {
		if _, err := p.Authorize(access.Credentials{Token: "none"}, access.Read, ""); err == nil {
			b.Fatal("it is known")
		}
	}
}
