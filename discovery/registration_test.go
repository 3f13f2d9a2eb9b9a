package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const second = Duration(time.Second)

func TestCheckDefaults(t *testing.T) {
	tests := []struct{ spec, want CheckSpec }{
		{
			CheckSpec{Type: CheckHTTP, URL: "http://a"},
			CheckSpec{Type: CheckHTTP, URL: "http://a", Method: "GET", Interval: 10 * second, Timeout: 5 * second, SuccessThreshold: 1, FailureThreshold: 2},
		}, {
			CheckSpec{Type: CheckTCP, Interval: 2 * second, FailureThreshold: 5},
			CheckSpec{Type: CheckTCP, Interval: 2 * second, Timeout: 2 * second, SuccessThreshold: 1, FailureThreshold: 5},
		}, {
			CheckSpec{Type: CheckGRPC, Interval: 20 * second, Timeout: second, SuccessThreshold: 3},
			CheckSpec{Type: CheckGRPC, Interval: 20 * second, Timeout: second, SuccessThreshold: 3, FailureThreshold: 2},
		}, {
			CheckSpec{Type: CheckTTL, TTL: 30 * second},
			CheckSpec{Type: CheckTTL, TTL: 30 * second},
		},
	}
	for _, tt := range tests {
		t.Run(string(tt.spec.Type), func(t *testing.T) {
			if got := tt.spec.WithDefaults(); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v: got %+v, want %+v", tt.spec, got, tt.want)
			}
		})
	}
}

func TestRegistrationDefaults(t *testing.T) {
	r := Registration{Service: "web", ID: "web-1", Checks: []CheckSpec{
		{Type: CheckHTTP}, {Type: CheckTCP}, {Type: CheckHTTP}, {Type: CheckTTL, ID: "http-2"}, {Type: CheckHTTP}, {Type: CheckTCP, ID: "mine"},
	}}
	got := r.WithDefaults("10.0.0.5", "a")
	var ids []string
	for _, c := range got.Checks {
		ids = append(ids, c.ID)
	}
	if want := []string{"http", "tcp", "http-3", "http-2", "http-4", "mine"}; !reflect.DeepEqual(ids, want) {
		t.Errorf("ids are %v, want %v", ids, want)
	}
	if got.Address != "10.0.0.5" || got.Zone != "a" {
		t.Errorf("address %q, zone %q", got.Address, got.Zone)
	}
	if r.Checks[0].ID != "" {
		t.Error("the argument was changed")
	}
	if again := got.WithDefaults("10.0.0.6", "b"); !reflect.DeepEqual(again, got) {
		t.Errorf("defaults of defaults: %+v", again)
	}
}

func TestRegistrationInstance(t *testing.T) {
	weight, slots := 0, 4
	r := Registration{
		Service: "Web", ID: "web-1", Address: "10.0.0.5", Port: 80, Ports: Ports{"grpc": 9090}, Zone: "a", Weight: &weight, Slots: &slots,
		Tags: Tags{"v2"}, Meta: Meta{"Team": "core"}, Checks: []CheckSpec{{ID: "tcp", Name: "front", Type: CheckTCP}},
	}
	want := Instance{
		Service: "Web", ID: "web-1", Address: "10.0.0.5", Port: 80, Ports: Ports{"grpc": 9090}, Zone: "a", Weight: 0, Slots: 4,
		Tags: Tags{"v2"}, Meta: Meta{"Team": "core"}, Status: Critical, Checks: []CheckStatus{{ID: "tcp", Name: "front", Type: CheckTCP, Status: Critical}},
	}
	if got := r.Instance(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := (Registration{}).Instance(); got.Status != Passing || got.Weight != 1 || got.Slots != 1 {
		t.Errorf("without checks: %+v", got)
	}
}

func TestCheckValidate(t *testing.T) {
	tests := []struct {
		spec    CheckSpec
		message string // empty: valid
	}{
		{CheckSpec{Type: CheckHTTP, URL: "https://a:8080/health?x=1", Method: "HEAD", Headers: map[string]string{"X-Probe": "disc é"}}, ""},
		{CheckSpec{Type: CheckHTTP, URL: "https://a", CA: "/etc/ca.pem", ServerName: "web.internal"}, ""},
		{CheckSpec{Type: CheckHTTP, URL: "https://a", ServerName: "::1", SkipVerify: true}, ""},
		{CheckSpec{Type: CheckGRPC, TLS: true, CA: "/etc/ca.pem"}, ""},
		{CheckSpec{Type: CheckTCP}, ""},
		{CheckSpec{Type: CheckTCP, Address: "[::1]:80"}, ""},
		{CheckSpec{Type: CheckGRPC, Address: "127.0.0.1:80", Service: "a.B", TLS: true}, ""},
		{CheckSpec{Type: CheckExec, Command: []string{"true"}}, ""},
		{CheckSpec{Type: CheckTTL, TTL: 30 * second}, ""},

		{CheckSpec{}, `type "" is unknown; use http, tcp, grpc, exec or ttl`},
		{CheckSpec{Type: "ping", URL: "x"}, `type "ping" is unknown; use http, tcp, grpc, exec or ttl`},
		{CheckSpec{Type: CheckHTTP}, `url "" is not an http or https URL`},
		{CheckSpec{Type: CheckHTTP, URL: "ftp://a"}, `url "ftp://a" is not an http or https URL`},
		{CheckSpec{Type: CheckHTTP, URL: "localhost:80"}, `url "localhost:80" is not an http or https URL`},
		{CheckSpec{Type: CheckHTTP, URL: "http:///x"}, `url "http:///x" is not an http or https URL`},
		{CheckSpec{Type: CheckHTTP, URL: "http://a", Method: "GE T"}, `method "GE T" is not an HTTP method`},
		{CheckSpec{Type: CheckHTTP, URL: "http://a", Headers: map[string]string{"A B": "", "a": "x\r\ny", "ok": "x"}},
			`header "A B" has a name or a value that HTTP does not allow` + "\n" + `header "a" has a name or a value that HTTP does not allow`},
		{CheckSpec{Type: CheckHTTP, URL: "http://a", SkipVerify: true}, "ca, server_name and skip_verify have no effect without TLS; use an https url"},
		{CheckSpec{Type: CheckGRPC, CA: "/etc/ca.pem"}, "ca, server_name and skip_verify have no effect without TLS; add tls: true"},
		{CheckSpec{Type: CheckHTTP, URL: "https://a", CA: "/etc/ca.pem", SkipVerify: true}, "ca has no effect with skip_verify; leave one of them out"},
		{CheckSpec{Type: CheckHTTP, URL: "https://a", CA: "-----BEGIN CERTIFICATE-----"}, "ca has no certificate in PEM form, from -----BEGIN CERTIFICATE----- on"},
		{CheckSpec{Type: CheckHTTP, URL: "https://a", CA: strings.Repeat("x", MaxCheckCA+1)}, "ca has 65537 bytes; give at most 65536"},
		{CheckSpec{Type: CheckHTTP, URL: "https://a", ServerName: "a b"}, `server_name "a b" is neither a host name nor an IP address`},
		{CheckSpec{Type: CheckTCP, Address: "10.0.0.5"}, `address "10.0.0.5" is not host:port, such as 127.0.0.1:8080 or [::1]:8080`},
		{CheckSpec{Type: CheckGRPC, Address: ":80"}, `address ":80" is not host:port, such as 127.0.0.1:8080 or [::1]:8080`},
		{CheckSpec{Type: CheckTCP, Address: "a:http"}, `address "a:http" is not host:port, such as 127.0.0.1:8080 or [::1]:8080`},
		{CheckSpec{Type: CheckTCP, Address: "a:0"}, `address "a:0" is not host:port, such as 127.0.0.1:8080 or [::1]:8080`},
		{CheckSpec{Type: CheckTCP, Address: "a:65536"}, `address "a:65536" is not host:port, such as 127.0.0.1:8080 or [::1]:8080`},
		{CheckSpec{Type: CheckExec}, `command is missing; give a list: [/usr/local/bin/probe, --quick]`},
		{CheckSpec{Type: CheckExec, Command: []string{""}}, `command is missing; give a list: [/usr/local/bin/probe, --quick]`},
		{CheckSpec{Type: CheckTTL}, `ttl 0s is missing or out of range; use 100ms to 24h`},
		{CheckSpec{Type: CheckTTL, TTL: 25 * 3600 * second}, `ttl 25h is missing or out of range; use 100ms to 24h`},
		{CheckSpec{Type: CheckTCP, Interval: 1}, "interval 1ns is missing or out of range; use 100ms to 24h"},
		{CheckSpec{Type: CheckTCP, Interval: 2 * second, Timeout: 3 * second}, "timeout 3s is out of range; it must be above 0 and at most the interval, 2s"},
		{CheckSpec{Type: CheckTCP, Timeout: -1}, "timeout -1ns is out of range; it must be above 0 and at most the interval, 10s"},
		{CheckSpec{Type: CheckTCP, SuccessThreshold: -1, FailureThreshold: 101},
			"success_threshold -1 is out of range; use 1 to 100\nfailure_threshold 101 is out of range; use 1 to 100"},
		{CheckSpec{Type: CheckTCP, ID: "a b", Name: "a\nb"}, `name "a\nb" is too long or has control characters` + "\n" +
			`check id "a b" has ' '; use letters, digits and - _ . :`},
	}
	for _, tt := range tests {
		t.Run(tt.message, func(t *testing.T) {
			err := tt.spec.WithDefaults().Validate()
			switch {
			case tt.message == "" && err != nil:
				t.Errorf("%+v: %v", tt.spec, err)
			case tt.message != "" && (!errors.Is(err, ErrInvalid) || err.Error() != tt.message):
				t.Errorf("%+v: got\n%v\nwant\n%s", tt.spec, err, tt.message)
			}
		})
	}
}

// TestCheckMethodInCapitals expects the method as servers know it, which tell get from GET.
func TestCheckMethodInCapitals(t *testing.T) {
	if got := (CheckSpec{Type: CheckHTTP, Method: "head"}).WithDefaults().Method; got != "HEAD" {
		t.Errorf("got %s", got)
	}
}

// TestCheckUnusedSettings sets every setting for every type of check. The error names those
// that the type does not have.
func TestCheckUnusedSettings(t *testing.T) {
	all := CheckSpec{
		ID: "x", Name: "x", URL: "https://a", Method: "GET", Headers: map[string]string{"a": "b"}, Address: "a:80", Service: "s", TLS: true,
		ServerName: "a", SkipVerify: true,
		Command: []string{"true"}, TTL: second, Interval: second, Timeout: second, SuccessThreshold: 1, FailureThreshold: 1,
	}
	tests := []struct {
		check   CheckType
		refused string
	}{
		{CheckHTTP, "address service tls command ttl"},
		{CheckTCP, "url method headers service tls server_name skip_verify command ttl"},
		{CheckGRPC, "url method headers command ttl"},
		{CheckExec, "url method headers address service tls server_name skip_verify ttl"},
		{CheckTTL, "url method headers address service tls server_name skip_verify command interval timeout success_threshold failure_threshold"},
	}
	for _, tt := range tests {
		t.Run(string(tt.check), func(t *testing.T) {
			spec := all
			spec.Type = tt.check
			var want []string
			for name := range strings.FieldsSeq(tt.refused) {
				want = append(want, fmt.Sprintf("%s is not a setting of a %s check", name, tt.check))
			}
			if err := spec.Validate(); err == nil || err.Error() != strings.Join(want, "\n") {
				t.Errorf("%s: got\n%v\nwant\n%s", tt.check, err, strings.Join(want, "\n"))
			}
		})
	}
}

func TestRegistrationValidate(t *testing.T) {
	valid := Registration{Service: "web", ID: "web-1", Address: "10.0.0.5", Port: 80}
	tests := []struct {
		change  func(*Registration)
		message string // empty: valid
	}{
		{func(r *Registration) {}, ""},
		{func(r *Registration) { r.Checks = []CheckSpec{{Type: CheckTCP}, {Type: CheckTCP}} }, ""},
		{func(r *Registration) { r.Port, r.Checks = 0, []CheckSpec{{Type: CheckTCP, Address: "a:80"}} }, ""},
		{func(r *Registration) { r.Service, r.Weight = "", new(int) }, "service name is empty; give 1 to 63 letters, digits or - _ ."},
		{func(r *Registration) { n := -1; r.Weight, r.Slots = &n, new(int) },
			"weight -1 is out of range; use 0 to 65535\nslots 0 is out of range; use 1 to 4096"},
		{func(r *Registration) { r.Port, r.Checks = 0, []CheckSpec{{Type: CheckTCP}, {Type: CheckGRPC}} },
			"checks[0]: a tcp check needs an address, or an instance with a port\nchecks[1]: a grpc check needs an address, or an instance with a port"},
		{func(r *Registration) {
			r.Checks = []CheckSpec{{Type: CheckTCP, ID: "a"}, {Type: CheckTTL, ID: "a"}}
		}, "checks[1]: ttl 0s is missing or out of range; use 100ms to 24h\n" + `checks[1]: id "a" is taken by another check`},
		{func(r *Registration) {
			for range 33 {
				r.Checks = append(r.Checks, CheckSpec{Type: CheckTCP})
			}
		}, "33 checks are too many; at most 32 are allowed"},
		{func(r *Registration) { r.DeregisterAfter = new(Duration) }, "deregister_after 0s is out of range; it must be above 0"},
		{func(r *Registration) {
			r.Meta = Meta{}
			for n := range 17 {
				r.Meta[fmt.Sprint(n)] = strings.Repeat("x", 4096)
			}
		}, "the instance has 69889 bytes; at most 65536 are allowed"},
	}
	for n, tt := range tests {
		t.Run(tt.message, func(t *testing.T) {
			r := valid
			tt.change(&r)
			err := r.WithDefaults("10.0.0.9", "").Validate()
			switch {
			case tt.message == "" && err != nil:
				t.Errorf("case %d: %v", n, err)
			case tt.message != "" && (!errors.Is(err, ErrInvalid) || err.Error() != tt.message):
				t.Errorf("case %d: got\n%v\nwant\n%s", n, err, tt.message)
			}
		})
	}
}

// TestRegistrationForms decodes one registration in the forms of the HTTP API and of the
// config file.
func TestRegistrationForms(t *testing.T) {
	const asJSON = `{"service":"web","id":"web-1","port":80,"ports":{"grpc":9090},"weight":0,"tags":["v2"],"meta":{"Team":"core"},` +
		`"checks":[{"type":"http","url":"http://a","interval":"1.5s","failure_threshold":3}],"deregister_after":"1h"}`
	const asYAML = `
service: web
id: web-1
port: 80
ports: {grpc: 9090}
weight: 0
tags: [v2]
meta: {Team: core}
checks:
  - {type: http, url: "http://a", interval: 1.5s, failure_threshold: 3}
deregister_after: 1h
`
	var a, b Registration
	if err := json.Unmarshal([]byte(asJSON), &a); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(asYAML), &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) || a.Checks[0].Interval != 3*second/2 || *a.Weight != 0 {
		t.Errorf("JSON gives %+v, YAML gives %+v", a, b)
	}
	if got, err := json.Marshal(a); err != nil || string(got) != asJSON {
		t.Errorf("written as %s, %v", got, err)
	}
}

func TestDurationInvalid(t *testing.T) {
	for _, text := range []string{`"10"`, `"soon"`, `""`, `"1d"`} {
		t.Run(text, func(t *testing.T) {
			var d Duration
			want := text + " is not a duration; write it as 500ms, 10s or 1h30m"
			if err := json.Unmarshal([]byte(text), &d); !errors.Is(err, ErrInvalid) || err.Error() != want {
				t.Errorf("%s: %v; want %s", text, err, want)
			}
		})
	}
}
