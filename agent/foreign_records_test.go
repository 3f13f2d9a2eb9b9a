package agent_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// ask returns the body of an answer of the agent.
func (r *running) ask(t *testing.T, method, path, body string, header ...string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Addr().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// resolve returns the answers to a DNS query, without owner, class and TTL.
func (r *running) resolve(t *testing.T, name string, qtype uint16) (answers []string) {
	t.Helper()
	resp, err := dns.Exchange(new(dns.Msg).SetQuestion(name, qtype), r.DNSAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, rr := range resp.Answer {
		answers = append(answers, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return answers
}

// A record that another program wrote with an IPv4-mapped address and with control characters is
// answered. The address has one form in every protocol, and no text breaks out of its place.
func TestForeignRecords(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	keys, client := discovery.NewKeys("default"), etcdtest.Client(t, etcd.Endpoint())
	for key, value := range map[string]string{
		keys.Static("web", "web-1"): `{"service":"web","id":"web-1","address":"::ffff:10.1.1.1","port":80,"meta":{"note":"a\n10.6.6.6:80\u001b[31m\u202e"}}`,
		keys.Static("odd", "odd-1"): `{"service":"odd","id":"odd-1","address":"0x7f000001","port":80}`,
		keys.Node("n9", "owner"):    `{"node":"n9","agent":"owner","address":"::ffff:10.9.9.9"}`,
	} {
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	a := start(t, settings(t, etcd.Endpoint(), ""))
	retrytest.Succeeds(t, func() error { return a.api.Ready(t.Context()) })
	if got := a.answers(t, "web", 1).Endpoints[0]; got.Address != "10.1.1.1" || got.Meta["note"] != "a\n10.6.6.6:80\x1b[31m\u202e" {
		t.Errorf("lookup: %+v", got)
	}
	if got := a.answers(t, "odd", 1).Endpoints[0]; got.Address != "0x7f000001" {
		t.Errorf("a record of an earlier version: %+v", got)
	}
	for _, test := range []struct{ name, method, path, body, want string }{
		{"text", "GET", "/v1/lookup/web?format=text", "", "10.1.1.1:80\n"},
		{"text of a node", "GET", "/v1/lookup/n9.node?format=text", "", "10.9.9.9\n"},
		{"Prometheus", "GET", "/v1/sd/prometheus?service=web", "", `"10.1.1.1:80"`},
		{"Envoy", "POST", "/v3/discovery:endpoints", `{"resource_names":["web"]}`, `"10.1.1.1"`},
		{"list", "GET", "/v1/services/web", "", `"10.1.1.1"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, got := a.ask(t, test.method, test.path, test.body)
			exact := strings.HasPrefix(test.name, "text") && got != test.want
			if status != http.StatusOK || exact || !strings.Contains(got, test.want) || strings.ContainsAny(got, "\x1b\r") {
				t.Errorf("got %d, %q; want %q", status, got, test.want)
			}
		})
	}
	for _, test := range []struct {
		name  string
		qtype uint16
		want  []string
	}{
		{"web.svc.disc.", dns.TypeA, []string{"10.1.1.1"}},
		{"web.svc.disc.", dns.TypeAAAA, nil},
		{"n9.node.disc.", dns.TypeA, []string{"10.9.9.9"}},
		{"1.1.1.10.in-addr.arpa.", dns.TypePTR, []string{"web-1.web.inst.disc."}},
		{"web.svc.disc.", dns.TypeTXT, []string{`"note=a\01010.6.6.6:80\027[31m\226\128\174"`}},
	} {
		t.Run(dns.TypeToString[test.qtype]+" "+test.name, func(t *testing.T) {
			if got := a.resolve(t, test.name, test.qtype); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// An address is registered in one form, whichever is given.
func TestRegistersCanonicalAddress(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	done, err := a.api.Register(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Address: "::ffff:10.1.1.1", Port: 80})
	if err != nil || done.Entry.Address != "10.1.1.1" {
		t.Fatalf("got %+v, %v", done, err)
	}
	kv, err := etcdtest.Client(t, etcd.Endpoint()).Get(t.Context(), discovery.NewKeys("default").Instance("web", "web-1"))
	if err != nil || len(kv.Kvs) != 1 || !strings.Contains(string(kv.Kvs[0].Value), `"address":"10.1.1.1"`) {
		t.Errorf("etcd has %v, %v", kv, err)
	}
}

// A check that came over the API asks only this host, unless checks.networks names others. One
// of the config file asks anybody.
func TestChecksOverTheAPI(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), `
advertise: 198.51.100.7
checks: {networks: [192.0.2.0/24]}
services:
  - {service: far, id: far-1, address: 203.0.113.1, port: 80, checks: [{type: http, url: "http://203.0.113.1/", method: PUT, headers: {Host: a}}]}
`))
	for _, test := range []struct {
		name, registration string
		status             int
		says               string
	}{
		{"its own address", `{"address":"203.0.113.1","port":80,"checks":[{"type":"tcp"}]}`, http.StatusForbidden, "checks.networks"},
		{"metadata as its own address", `{"address":"169.254.169.254","port":80,"checks":[{"type":"http","url":"http://169.254.169.254/"}]}`, http.StatusForbidden, "link-local"},
		{"PUT", `{"port":80,"checks":[{"type":"http","url":"http://127.0.0.1/","method":"PUT"}]}`, http.StatusForbidden, "GET or HEAD"},
		{"Host", `{"port":80,"checks":[{"type":"http","url":"http://127.0.0.1/","headers":{"Host":"a"}}]}`, http.StatusForbidden, "header Host"},
		{"the advertised address", `{"port":80,"checks":[{"type":"tcp"}]}`, http.StatusCreated, ""},
		{"an allowed network", `{"address":"192.0.2.1","port":80,"checks":[{"type":"tcp"}]}`, http.StatusOK, ""},
		{"loopback", `{"address":"203.0.113.1","port":80,"checks":[{"type":"http","url":"http://127.0.0.1/"}]}`, http.StatusOK, ""},
		{"an odd address", `{"address":"0x7f000001","port":80}`, http.StatusBadRequest, "ends in a number"},
		{"multicast", `{"address":"224.0.0.1","port":80}`, http.StatusBadRequest, "multicast"},
		{"a line break in meta", `{"port":80,"meta":{"note":"a\nb"}}`, http.StatusBadRequest, "meta \\\"note\\\" has the character U+000A"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := a.ask(t, "PUT", "/v1/services/web/instances/web-1", test.registration)
			if status != test.status && !(test.status/100 == 2 && status == http.StatusAccepted) || !strings.Contains(body, test.says) {
				t.Errorf("got %d %s, want %d, %s", status, body, test.status, test.says)
			}
		})
	}
	if _, ok := a.registrations(t)["far/far-1"]; !ok {
		t.Error("the instance of the config file is not registered")
	}
}
