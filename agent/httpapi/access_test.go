package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/agent/httpapi/fastpath"
	"disc/discovery"
)

// policy is a policy with a token for each of some scopes: a token is called as its scopes are
// written. Everybody has the scopes of anonymous.
func policy(t testing.TB, anonymous string, tokens ...string) *access.Policy {
	t.Helper()
	parse := func(list string) (scopes []access.Scope) {
		for text := range strings.FieldsSeq(list) {
			s, err := access.ParseScope(text)
			if err != nil {
				t.Fatal(err)
			}
			scopes = append(scopes, s)
		}
		return scopes
	}
	var all []access.Token
	for n, scopes := range tokens {
		all = append(all, access.Token{Name: fmt.Sprint("t", n), SHA256: access.DigestOf(scopes), Scopes: parse(scopes)})
	}
	return access.NewPolicy(all, []access.Client{{Name: "host-1", Scopes: parse("register:web")}}, parse(anonymous))
}

func authenticator(p *access.Policy) *access.Authenticator {
	a := new(access.Authenticator)
	a.Set(p)
	return a
}

// withToken has one token, with all scopes. Everybody may read.
func withToken(token string) *access.Authenticator {
	return authenticator(access.NewPolicy(
		[]access.Token{{Name: "all", SHA256: access.DigestOf(token), Scopes: []access.Scope{{}}}}, nil, []access.Scope{{Action: access.Read}}))
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, errors.New("not to be read")
}

// ask makes a request whose caller is gone, so that nothing waits.
func ask(a *API, method, path, token string, body []byte, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := httptest.NewRequestWithContext(ctx, method, path, bytes.NewReader(body))
	r.Host = "localhost"
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

// TestEveryRouteNeedsAScope asks each route without a token, with a token that has every scope
// but its own, and with one that has only its own.
func TestEveryRouteNeedsAScope(t *testing.T) {
	var others []access.Scope
	parts := regexp.MustCompile(`\{[^}]*\}`)
	a := newFleet().api(t, Options{Access: new(access.Authenticator)})
	for _, rt := range a.routes {
		t.Run(rt.method+" "+rt.path, func(t *testing.T) {
			path := parts.ReplaceAllString(rt.path, "x")
			if rt.scope == 0 || rt.scope.HasSubject() != (rt.subject != "") {
				t.Fatalf("scope %v for subject %q", rt.scope, rt.subject)
			}
			if rt.subject != "" && rt.subject != anySubject && !strings.Contains(rt.path, "{"+strings.TrimSuffix(rt.subject, "...")) {
				t.Fatalf("the path has no %q", rt.subject)
			}
			others = nil
			for s := access.Read; s <= access.Take; s++ {
				if s != rt.scope && !(rt.scope == access.KVRead && s == access.KV) {
					others = append(others, access.Scope{Action: s})
				}
			}
			a.options.Access.Set(access.NewPolicy([]access.Token{
				{Name: "own", SHA256: access.DigestOf("own"), Scopes: []access.Scope{{Action: rt.scope}}},
				{Name: "others", SHA256: access.DigestOf("others"), Scopes: others},
			}, nil, nil))
			if rt.scope == access.Open {
				if w := ask(a, rt.method, path, "", nil); w.Code != 200 {
					t.Errorf("without a token: %d %s", w.Code, w.Body)
				}
				return
			}
			for token, want := range map[string]struct {
				status    int
				challenge string
				detail    string
			}{
				"":       {401, `Bearer realm="disc"`, "this needs a token with scope"},
				"wrong":  {401, `Bearer realm="disc", error="invalid_token"`, "the token is not known to this agent"},
				"others": {403, `Bearer realm="disc", error="insufficient_scope", scope="` + rt.scope.String() + `"`, `token \"others\" lacks scope`},
			} {
				w := ask(a, rt.method, path, token, nil, func(r *http.Request) { r.Body, r.ContentLength = http.NoBody, 1<<20; r.Body = body{unread{t}} })
				if w.Code != want.status || w.Header().Get("WWW-Authenticate") != want.challenge || !strings.Contains(w.Body.String(), want.detail) {
					t.Errorf("token %q: %d, %q, %s", token, w.Code, w.Header().Get("WWW-Authenticate"), w.Body)
				}
			}
			if w := ask(a, rt.method, path, "own", nil); w.Code == 401 || w.Code == 403 {
				t.Errorf("with the scope: %d %s", w.Code, w.Body)
			}
			if rt.method == "GET" {
				if w := ask(a, "HEAD", path, "", nil); w.Code != 401 {
					t.Errorf("HEAD without a token: %d", w.Code)
				}
			}
			a.options.Access.Set(nil)
			if w := ask(a, rt.method, path, "wrong", nil); w.Code == 401 || w.Code == 403 && rt.scope != access.Operate {
				t.Errorf("without a policy: %d %s", w.Code, w.Body)
			}
		})
	}
}

type body struct{ unread }

func (body) Close() error { return nil }

func TestScopesOfSubjects(t *testing.T) {
	a := withWebs(1).api(t, Options{})
	for _, c := range []struct {
		request, body, scopes string
		status                int
	}{
		{"PUT /v1/services/web/instances/w", "{}", "register:web", 201},
		{"PUT /v1/services/WEB/instances/w", "{}", "register:web", 201},
		{"PUT /v1/services/db/instances/w", "{}", "register:web", 403},
		{"PUT /v1/services/web/instances/w/load", `{"utilization":0.5}`, "register:web", 204},
		{"PUT /v1/services/db/instances/w/load", `{"utilization":0.5}`, "register:web", 403},
		{"PATCH /v1/services/web/instances/w/override", `{"weight":1}`, "register:web", 403},
		{"PATCH /v1/services/web/instances/web-1/override", `{"weight":1}`, "operate", 200},
		{"GET /v1/kv/app/a", "", "kv-read:app/", 404},
		{"GET /v1/kv/app%2Fa", "", "kv-read:app/", 404},
		{"GET /v1/kv/apple", "", "kv-read:app/", 403},
		{"GET /v1/kv/app/?recurse", "", "kv-read:app/", 503},
		{"GET /v1/kv/?recurse", "", "kv-read:app/", 403},
		{"GET /v1/kv?recurse", "", "kv-read:app/", 403},
		{"GET /v1/kv/%00any", "", "kv-read:app/", 403},
		{"GET /v1/kv/*", "", "kv-read:app/", 403},
		{"GET /v1/kv?key=*", "", "kv-read:app/", 403},
		{"PUT /v1/services/*/instances/w", "{}", "register:web", 403},
		{"GET /v1/kv?recurse", "", "kv-read", 503},
		{"GET /v1/kv?key=app/a&key=app/b", "", "kv-read:app/", 503},
		{"GET /v1/kv?key=app/a&key=db/b", "", "kv-read:app/", 403},
		{"GET /v1/kv?key=app/a&key=db/b", "", "kv-read:app/ kv:db/", 503},
		{"GET /v1/kv?key=app/a as events", "", "kv-read:app/", 400},
		{"GET /v1/kv?key=app/a as events", "", "kv-read", 400},
		{"GET /v1/kv as events", "", "kv-read:app/", 403},
		{"GET /v1/kv as events", "", "kv-read", 200},
		{"GET /v1/kv/app/ as events", "", "kv-read:app/", 200},
		{"GET /v1/kv/db/ as events", "", "kv-read:app/", 403},
		{"PUT /v1/kv/app/a", "x", "kv:app/", 200},
		{"PUT /v1/kv/app/a", "x", "kv-read:app/", 403},
		{"PUT /v1/kv/db/a", "x", "kv:app/", 403},
		{"DELETE /v1/kv/app/?recurse", "", "kv:app/", 200},
		{"DELETE /v1/kv/?recurse", "", "kv:app/", 403},
		{"POST /v1/kv", `{"ops":[{"op":"put","key":"app/a"},{"op":"delete","key":"app/b"}]}`, "kv:app/", 200},
		{"POST /v1/kv", `{"ops":[{"op":"put","key":"app/a"},{"op":"delete","key":"db/b"}]}`, "kv:app/", 403},
		{"POST /v1/kv", `{"ops":[]}`, "kv:app/", 403},
		{"POST /v1/locks/a", "", "lock:b", 403},
		{"DELETE /v1/locks/a/id", "", "lock:a", 202},
		{"DELETE /v1/locks/a/id", "", "lock:b", 403},
		{"DELETE /v1/locks/a?force", "", "lock:a", 403},
		{"POST /v1/claims/gpu", "", "claim:web", 403},
		{"DELETE /v1/claims/id", "", "claim:web", 202},
		{"DELETE /v1/claims/id", "", "lock", 403},
		{"POST /v1/limits/sms/take", "", "take:sms", 404},
		{"POST /v1/limits/sms/take", "", "take:mail", 403},
		{"PUT /v1/limits/sms", `{"rate":1}`, "take:sms", 403},
	} {
		t.Run(c.request+" with "+c.scopes, func(t *testing.T) {
			a.options.Access = authenticator(policy(t, "", c.scopes))
			method, path, _ := strings.Cut(c.request, " ")
			path, events := strings.CutSuffix(path, " as events")
			w := ask(a, method, path, c.scopes, []byte(c.body), func(r *http.Request) {
				if events {
					r.Header.Set("Accept", api.TypeEvents)
				}
			})
			if w.Code != c.status {
				t.Errorf("%d, want %d: %s", w.Code, c.status, w.Body)
			}
		})
	}
}

// What everybody may do is not refused to a caller with a token that is not known, if it only
// reads: a token that has been removed does not take lookups away.
func TestReadsOfEverybody(t *testing.T) {
	a := withWebs(1).api(t, Options{Access: authenticator(policy(t, "read kv-read:public/ take", "kv-read:app/"))})
	for request, status := range map[string]int{
		"GET /v1/lookup/web":                200,
		"GET /v1/services?index=1":          200,
		"GET /v1/kv/public/a":               404,
		"GET /v1/kv/app/a":                  401,
		"GET /v1/kv?key=public/a":           401, // the token is looked at: it may allow other keys
		"POST /v1/limits/sms/take":          401,
		"DELETE /v1/services/a/instances/b": 401,
	} {
		t.Run(request, func(t *testing.T) {
			method, path, _ := strings.Cut(request, " ")
			if w := ask(a, method, path, "wrong", nil); w.Code != status {
				t.Errorf("%d, want %d: %s", w.Code, status, w.Body)
			}
		})
	}
	if w := ask(a, "GET", "/v1/kv?key=public/a&key=app/b", "kv-read:app/", nil); w.Code != 503 {
		t.Errorf("what everybody may read, and what the token may: %d %s", w.Code, w.Body)
	}
	if w := ask(a, "POST", "/v1/limits/sms/take", "", nil); w.Code != 404 {
		t.Errorf("a take of everybody: %d %s", w.Code, w.Body)
	}
}

func TestAuthorizationHeader(t *testing.T) {
	a := withWebs(1).api(t, Options{Access: withToken("first")})
	for header, status := range map[string]int{
		"Bearer first": 200, "bearer first": 200, "Bearer  first": 200,
		"": 401, "Bearer": 401, "Bearer ": 401, "Bearer firs": 401, "Bearer first2": 401, "Bearer first ": 401, "Basic first": 401, "first": 401,
	} {
		t.Run(header, func(t *testing.T) {
			w := ask(a, "PATCH", "/v1/services/web/instances/web-1/override", "", []byte(`{"weight":2}`), func(r *http.Request) { r.Header.Set("Authorization", header) })
			if w.Code != status {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// TestSocketNeedsTheToken expects the rules to be the same on the Unix socket.
func TestSocketNeedsTheToken(t *testing.T) {
	s := serveUnix(t, withWebs(1).api(t, Options{Access: withToken("first")}))
	s.want("PUT /v1/services/web/instances/w", "{}", 401)
	s.want("GET /debug/pprof/heap", "", 401)
	s.want("GET /v1/services", "", 200)
	s.do("PUT /v1/services/web/instances/w", "{}", "Authorization: Bearer first").want(t, 201)
	s.do("GET /debug/pprof/heap", "", "Authorization: Bearer first").want(t, 200)
}

func TestClientCertificates(t *testing.T) {
	a := withWebs(1).api(t, Options{Access: authenticator(policy(t, "read"))})
	for name, c := range map[string]struct {
		certificate string
		verified    bool
		validFor    time.Duration // from now
		status      int
		detail      string
	}{
		"known":      {"host-1", true, time.Hour, 201, ""},
		"another":    {"host-2", true, time.Hour, 403, `certificate \"host-2\" is not in http.clients`},
		"unverified": {"host-1", false, time.Hour, 401, "this needs a token"},
		"expired":    {"host-1", true, -time.Second, 401, "this needs a token"},
	} {
		t.Run(name, func(t *testing.T) {
			w := ask(a, "PUT", "/v1/services/web/instances/"+name, "", []byte("{}"), func(r *http.Request) {
				chain := []*x509.Certificate{{Subject: pkix.Name{CommonName: c.certificate}, NotAfter: time.Now().Add(c.validFor)}}
				r.TLS = &tls.ConnectionState{PeerCertificates: chain}
				if c.verified {
					r.TLS.VerifiedChains = [][]*x509.Certificate{chain}
				}
			})
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.detail) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// TestFastPathNeedsTheScope asks for what is answered in front of net/http.
func TestFastPathNeedsTheScope(t *testing.T) {
	values := fixedKV{item: api.KVItem{Key: "app/k", Value: []byte("v"), Revision: 7}, view: KVFreshness{Revision: 9, Epoch: "e1", Index: 7}}
	guard := new(access.Authenticator)
	a := withWebs(1).api(t, Options{Access: guard}, func(b *Backends) { b.KV = &values })
	responder := fastpath.NewResponder(plainAnswerer{a}, nil)
	for anonymous, want := range map[string][2]bool{
		"": {false, false}, "read": {true, false}, "kv-read": {false, true}, "read kv-read:app/": {true, true}, "kv-read:other/": {false, false},
	} {
		t.Run(anonymous, func(t *testing.T) {
			guard.Set(policy(t, anonymous))
			for n, path := range []string{"/v1/lookup/web", "/v1/kv/app/k"} {
				_, length := responder.Respond([]byte("GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"), time.Now())
				w := ask(a, "GET", path, "", nil)
				if (length > 0) != want[n] || (w.Code == 200) != want[n] || !want[n] && w.Code != 401 {
					t.Errorf("%s: answered %v; over net/http %d", path, length > 0, w.Code)
				}
			}
		})
	}
}

func TestDetailsOfTheAgent(t *testing.T) {
	detailed := func(b *Backends) { b.Agent = detailedAgent{b.Agent} }
	for name, c := range map[string]struct {
		access *access.Authenticator
		token  string
		want   bool
	}{
		"without a policy": {nil, "", true},
		"everybody":        {authenticator(policy(t, "read", "status")), "", false},
		"with the scope":   {authenticator(policy(t, "read", "status")), "status", true},
		"with another":     {authenticator(policy(t, "read", "operate")), "operate", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := ask(newFleet().api(t, Options{Access: c.access}, detailed), "GET", "/v1/agent", c.token, nil)
			for _, text := range []string{"the password is", "/etc/disc/secret", "etcd-1.example.org", "etcd-2.example.org", "etcd-3.example.org", "/etc/disc/agent.pem", "no lease", "no view", "not written"} {
				if w.Code != 200 || strings.Contains(w.Body.String(), text) != c.want {
					t.Errorf("%q: %d %s", text, w.Code, w.Body)
				}
			}
		})
	}
}

// TestReadinessWithoutNames expects /readyz to name instances and errors only to who may read.
func TestReadinessWithoutNames(t *testing.T) {
	f := newFleet()
	f.notReady = [2]error{errors.New("etcd-1 is away"), errors.New("web/web-1: etcd-1 is away")}
	for name, c := range map[string]struct {
		access *access.Authenticator
		token  string
		want   bool
	}{
		"without a policy": {nil, "", true},
		"everybody reads":  {authenticator(policy(t, "read")), "", true},
		"nobody":           {authenticator(policy(t, "", "read")), "", false},
		"unknown":          {authenticator(policy(t, "", "read")), "guess", false},
		"with the scope":   {authenticator(policy(t, "", "read")), "read", true},
		"with another":     {authenticator(policy(t, "", "take")), "take", false},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.api(t, Options{Access: c.access})
			for path, short := range map[string][]string{
				"/readyz": {"lookup: ", "registered: "}, "/readyz/lookup": {"lookup: "}, "/readyz/registered": {"registered: "},
			} {
				w := ask(a, "GET", path, c.token, nil)
				if w.Code != 503 || strings.Contains(w.Body.String(), "etcd-1") != c.want || strings.Contains(w.Body.String(), "web-1") != (c.want && path != "/readyz/lookup") {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
				for _, text := range short {
					if !strings.Contains(w.Body.String(), text) {
						t.Errorf("%s: %q is not in %s", path, text, w.Body)
					}
				}
			}
		})
	}
}

// detailedAgent has what is for scope status.
type detailedAgent struct{ AgentStatus }

func (d detailedAgent) Status(ctx context.Context) api.Agent {
	s := d.AgentStatus.Status(ctx)
	s.Settings = []api.Setting{{Name: "http.token_file", Value: "/etc/disc/secret"}}
	s.Registrations[0].Checks = []api.Check{{ID: "service", Type: discovery.CheckHTTP, Status: discovery.Passing, Output: "the password is swordfish"}}
	s.Endpoints = []string{"https://etcd-1.example.org:2379"}
	s.Session.Endpoint, s.Catalog.Endpoint = "etcd-2.example.org:2379", "etcd-3.example.org:2379"
	s.Certificates = []api.Certificate{{Setting: "etcd.cert", File: "/etc/disc/agent.pem"}}
	s.Session.Error, s.Catalog.Error, s.Registrations[0].Error = "no lease", "no view", "not written"
	return s
}
