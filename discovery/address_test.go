package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"disc/discovery/retry/retrytest"
)

func TestValidateAddress(t *testing.T) {
	const number = "ends in a number"
	for address, refusal := range map[string]string{
		"10.0.0.5": "", "::1": "", "2001:db8::5": "", "::ffff:10.0.0.5": "", "127.0.0.1": "", "240.0.0.1": "", "fe80::5": "",
		"localhost": "", "db.example.com": "", "db.example.com.": "", "my_db": "", "4host": "", "0xhost": "", "a.0x1.b": "", "1.b": "",
		strings.Repeat("a", 63) + ".b": "",

		"0x7f000001": number, "0X7F.1": "neither an IP address nor a host name", "a.0x": number, "0x7f.0x1": number,
		"127.1": "neither", "017700000001": "neither", "2130706433": "neither", "010.1.1.1": "neither", "10.0.0.5.": "neither",
		"224.0.0.1": "multicast", "239.255.255.255": "multicast", "ff02::1": "multicast", "::ffff:224.0.0.1": "multicast",
		"255.255.255.255": "broadcast", "::ffff:255.255.255.255": "broadcast",
		"0.0.0.0": "unspecified", "::": "unspecified", "::ffff:0.0.0.0": "0.0.0.0/8", "0.1.2.3": "0.0.0.0/8",
		"fe80::1%eth0": "neither", "[::1]": "neither", "10.0.0.5:80": "neither", "": "empty",
		"-a": "neither", "a-": "not a host name", "a.-b": "not a host name", strings.Repeat("a", 64): "not a host name", "a..b": "neither",
	} {
		t.Run(address, func(t *testing.T) {
			err := ValidateAddress(address)
			if refusal == "" && err != nil || refusal != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), refusal)) {
				t.Errorf("got %v, want %q", err, refusal)
			}
		})
	}
}

func TestCanonicalAddress(t *testing.T) {
	for address, want := range map[string]string{
		"10.1.1.1": "10.1.1.1", "::ffff:10.1.1.1": "10.1.1.1", "::FFFF:a01:101": "10.1.1.1", "0:0:0:0:0:ffff:10.1.1.1": "10.1.1.1",
		"FD00:0:0::5": "fd00::5", "fd00::5": "fd00::5", "::1": "::1", "Db.Example.com": "Db.Example.com", "no:address": "no:address",
		"::ffff:0.0.0.0": "::ffff:0.0.0.0", "::ffff:224.0.0.1": "224.0.0.1",
	} {
		t.Run(address, func(t *testing.T) {
			if got := CanonicalAddress(address); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// Nearly all addresses are canonical already: they cost no memory.
func TestCanonicalAddressAllocates(t *testing.T) {
	for _, address := range []string{"10.1.1.1", "2001:db8:1111:2222:3333:4444:5555:6666", "db.example.com"} {
		t.Run(address, func(t *testing.T) {
			if n := retrytest.Allocations(100, func() { CanonicalAddress(address) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// What the first version accepted stays readable, in one form; what is written now is stricter.
func TestStoredRecordsStayReadable(t *testing.T) {
	for fields, shown := range map[string]string{
		`"address":"::ffff:10.1.1.1"`: "10.1.1.1", `"address":"FD00::5"`: "fd00::5", `"address":"0x7f000001"`: "0x7f000001",
		`"address":"::ffff:0.0.0.0"`: "::ffff:0.0.0.0", `"address":"224.0.0.1"`: "224.0.0.1", `"address":"255.255.255.255"`: "255.255.255.255", `"address":"a-"`: "a-",
		`"address":"10.0.0.5","zone":"a\u2028b"`: "10.0.0.5", `"address":"10.0.0.5","meta":{"note":"a\nb\u001b[31m\u202e"}`: "10.0.0.5",
	} {
		t.Run(fields, func(t *testing.T) {
			i, err := DecodeInstance([]byte(`{"service":"web","id":"web-1",` + fields + `}`))
			if err != nil || i.Address != shown {
				t.Errorf("got %q, %v; want %s", i.Address, err, shown)
			}
		})
	}
	n, err := DecodeNode([]byte(`{"node":"n1","address":"::ffff:10.1.1.1"}`))
	if err != nil || n.Address != "10.1.1.1" {
		t.Errorf("node: got %q, %v", n.Address, err)
	}
	if o, err := DecodeOverride([]byte(`{"meta":{"note":"a\nb"}}`)); err != nil || o.Meta["note"] != "a\nb" {
		t.Errorf("override: got %v, %v", o, err)
	}
}

func TestControlCharactersAreRefused(t *testing.T) {
	for _, text := range []string{"a\nb", "a\tb", "\x1b[31m", "\x00", "\x7f", "\u0085", "\u009b", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069"} {
		for field, r := range map[string]Registration{
			"zone":               {Zone: text},
			"meta \"note\"":      {Meta: Meta{"note": text}},
			"meta key":           {Meta: Meta{text: "x"}},
			"tag":                {Tags: Tags{text}},
			"port name":          {Ports: Ports{text: 1}},
			"address":            {Address: text},
			"instance id":        {ID: text},
			"service name":       {Service: text},
			"name":               {Checks: []CheckSpec{{Type: CheckTTL, TTL: Duration(1e9), Name: text}}},
			"check id":           {Checks: []CheckSpec{{Type: CheckTTL, TTL: Duration(1e9), ID: "x" + text}}},
			"url":                {Checks: []CheckSpec{{Type: CheckHTTP, URL: "http://a/" + text}}},
			"method":             {Checks: []CheckSpec{{Type: CheckHTTP, URL: "http://a/", Method: text}}},
			"header \"A\"":       {Checks: []CheckSpec{{Type: CheckHTTP, URL: "http://a/", Headers: map[string]string{"A": text}}}},
			"service":            {Checks: []CheckSpec{{Type: CheckGRPC, Address: "a:1", Service: text}}},
			"checks[0]: address": {Checks: []CheckSpec{{Type: CheckTCP, Address: "a" + text + ":1"}}},
		} {
			t.Run(fmt.Sprintf("%s %U", field, []rune(text)), func(t *testing.T) {
				if r.Service == "" {
					r.Service = "web"
				}
				if r.ID == "" {
					r.ID = "web-1"
				}
				err := r.WithDefaults("10.0.0.5", "a").Validate()
				if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), field) || strings.ContainsFunc(err.Error(), IsControl) {
					t.Errorf("got %q, want an ErrInvalid of one line that names the %s", err, field)
				}
			})
		}
		t.Run(fmt.Sprintf("override %q", text), func(t *testing.T) {
			if err := (Override{Meta: Meta{"note": text}}).Validate(); !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v", err)
			}
			patch, _ := json.Marshal(map[string]any{"meta": map[string]string{"note": text}})
			if _, err := (Override{}).Patch(patch); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `"note"`) {
				t.Errorf("patch: got %v", err)
			}
		})
	}
	marks := Registration{Service: "web", ID: "web-1", Zone: "שלום\u200f", Meta: Meta{"note": "Grüße, 世界"}}
	if err := marks.WithDefaults("10.0.0.5", "").Validate(); err != nil {
		t.Errorf("texts of other languages: %v", err)
	}
}

// A patch of one thing does not fail for what an earlier version wrote beside it.
func TestPatchLeavesOldMeta(t *testing.T) {
	old := Override{Meta: Meta{"note": "a\nb"}}
	got, err := old.Patch([]byte(`{"state":"drain"}`))
	if err != nil || got.State != Drain || got.Meta["note"] != "a\nb" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestForeignTextInErrors(t *testing.T) {
	for _, err := range []error{
		&ConflictError{Service: "web", ID: "web-1", Node: "n1", Owner: "x\u009b31m\ny"},
		&ConflictError{Service: "web", ID: "web-1", Node: "n1", Owner: "x\u009b31m\ny", Cloned: true},
		BrokenRecord{Key: Key{ID: "/disc/v1/x\u202e\n"}, Err: ErrInvalid},
	} {
		t.Run(fmt.Sprintf("%T", err), func(t *testing.T) {
			if r, found := findControl(err.Error()); found {
				t.Errorf("%q has %U", err.Error(), r)
			}
		})
	}
}

func TestForbiddenNetwork(t *testing.T) {
	for network, forbidden := range map[string]bool{
		"169.254.0.0/16": true, "169.254.169.254/32": true, "fe80::/64": true, "224.0.0.0/8": true, "ff02::/16": true, "0.0.0.0/32": true,
		"fd00:ec2::/48": true, "255.255.255.255/32": true, "2002:a9fe:a9fe::1/128": true,
		"0.0.0.0/0": false, "::/0": false, "169.0.0.0/8": false, "172.17.0.0/16": false, "fd00::/8": false, "240.0.0.0/4": false, "127.0.0.0/8": false,
	} {
		t.Run(network, func(t *testing.T) {
			if what := ForbiddenNetwork(netip.MustParsePrefix(network)); (what != "") != forbidden {
				t.Errorf("got %q", what)
			}
		})
	}
}
