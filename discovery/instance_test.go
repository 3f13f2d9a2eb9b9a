package discovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// TestRecords decodes each record of testdata/records and compares its encoding with the
// golden file next to it.
func TestRecords(t *testing.T) {
	files, err := filepath.Glob("testdata/records/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no records", err)
	}
	for _, file := range files {
		record, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		i, err := DecodeInstance(record)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		golden := strings.TrimSuffix(file, ".json") + ".golden"
		got := append(i.Encode(), '\n')
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(golden); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is written as\n%swant\n%s%v", file, got, want, err)
		}
	}
}

func TestDecodeInstanceDefaults(t *testing.T) {
	got, err := DecodeInstance([]byte(`{"service":"db","id":"db-1","address":"db.example.com","tags":[],"meta":{},"ports":{},"checks":[]}`))
	want := Instance{Service: "db", ID: "db-1", Address: "db.example.com", Weight: 1, Slots: 1, Status: Passing}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestDecodeInstanceBroken(t *testing.T) {
	many := func(format string, n int) string { return strings.TrimSuffix(strings.Repeat(format+",", n), ",") }
	tests := []struct{ record, message string }{
		{``, `decode record: unexpected end of JSON input`},
		{`{"service":"web",`, `decode record: unexpected end of JSON input`},
		{`{"service":"web","id":"web-1","address":"10.0.0.5","blob":"` + strings.Repeat("x", maxDecodedRecord) + `"}`, `decode record: it has 1048637 bytes; at most 1048576 are allowed`},
		{`hello`, `decode record: invalid character 'h' looking for beginning of value`},
		{`[]`, `decode record: json: cannot unmarshal array into Go value of type discovery.Instance`},
		{`{"port":"80"}`, `decode record: json: cannot unmarshal string into Go struct field Instance.port of type int`},
		{`{}`, "service name is empty; give 1 to 63 letters, digits or - _ .\n" +
			"instance id is empty; give 1 to 128 letters, digits or - _ . :\n" +
			"address is empty; give an IP address or a host name without a port"},
		{`"port":-1`, `port -1 is out of range; use 0 to 65535`},
		{`"port":65536`, `port 65536 is out of range; use 0 to 65535`},
		{`"ports":{"grpc":0}`, `port grpc 0 is out of range; use 1 to 65535`},
		{`"ports":{"b":70000,"a":70000}`, "port a 70000 is out of range; use 1 to 65535\nport b 70000 is out of range; use 1 to 65535"},
		{`"ports":{"a.b":1}`, `port name "a.b" has '.'; use letters, digits and - _`},
		{`"weight":-1`, `weight -1 is out of range; use 0 to 65535`},
		{`"weight":65536`, `weight 65536 is out of range; use 0 to 65535`},
		{`"slots":0`, `slots 0 is out of range; use 1 to 4096`},
		{`"status":"fine"`, `status "fine" is unknown; use passing, warning or critical`},
		{`"status":""`, `status "" is unknown; use passing, warning or critical`},
		{`"node":"a b"`, `node name "a b" has ' '; use letters, digits and - _ . :`},
		{`"zone":"a\u001b[31m"`, `zone "a\x1b[31m" is too long or has control characters`},
		{`"zone":"a\u009b31m"`, `zone "a\u009b31m" is too long or has control characters`},
		{`"tags":["a b"]`, `tag "a b" has ' '; use letters, digits and - _ .`},
		{`"tags":[` + many(`"t"`, 65) + `]`, `65 tags are too many; at most 64 are allowed`},
		{`"meta":{"":"x"}`, `meta key "" is empty, too long or has control characters`},
		{`"meta":{"k":"` + strings.Repeat("x", 4097) + `"}`, `meta "k" has 4097 bytes; at most 4096 are allowed`},
		{`"address":""`, `address is empty; give an IP address or a host name without a port`},
		{`"address":"0.0.0.0"`, `address 0.0.0.0 is unspecified; give the address that callers connect to`},
		{`"address":"::"`, `address :: is unspecified; give the address that callers connect to`},
		{`"address":"10.0.0.5:80"`, `address "10.0.0.5:80" is neither an IP address nor a host name (the port goes into its own field)`},
		{`"address":"[::1]"`, `address "[::1]" is neither an IP address nor a host name (the port goes into its own field)`},
		{`"address":"fe80::1%eth0"`, `address "fe80::1%eth0" is neither an IP address nor a host name (the port goes into its own field)`},
		{`"address":"10.0.0.300"`, `address "10.0.0.300" is neither an IP address nor a host name (the port goes into its own field)`},
		{`"address":"a..b"`, `address "a..b" is neither an IP address nor a host name (the port goes into its own field)`},
		{`"address":"http://a"`, `address "http://a" is neither an IP address nor a host name (the port goes into its own field)`},
	}
	for _, tt := range tests {
		t.Run(tt.record, func(t *testing.T) {
			record := tt.record
			if strings.HasPrefix(record, `"`) {
				record = `{"service":"web","id":"web-1","address":"10.0.0.5",` + record + `}`
			}
			i, err := DecodeInstance([]byte(record))
			if !errors.Is(err, ErrInvalid) || err.Error() != tt.message || !reflect.DeepEqual(i, Instance{}) {
				t.Errorf("%.100s: %+v, %v; want the ErrInvalid %s", record, i, err, tt.message)
			}
		})
	}
}

func TestEncodeShape(t *testing.T) {
	full := Instance{
		Service: "web", ID: "web-1", Node: "host-1", Address: "10.0.0.5", Port: 8080, Ports: Ports{"grpc": 9090}, Zone: "a", Weight: 1,
		Tags: Tags{"v2"}, Meta: Meta{"Team": "core"}, Status: Passing, Checks: []CheckStatus{{ID: "http", Name: "front", Type: CheckHTTP, Status: Passing}},
		Slots: 1, Owner: "o", Run: "r", RegisteredAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	tests := []struct {
		value any
		want  string
	}{
		{full, `{"service":"web","id":"web-1","node":"host-1","address":"10.0.0.5","port":8080,"ports":{"grpc":9090},"zone":"a","weight":1,"tags":["v2"],` +
			`"meta":{"Team":"core"},"status":"passing","checks":[{"id":"http","name":"front","type":"http","status":"passing"}],"slots":1,"owner":"o","run":"r",` +
			`"registered_at":"2026-01-02T03:04:05Z"}`},
		{Instance{}, `{"service":"","id":"","address":"","port":0,"ports":{},"weight":0,"tags":[],"meta":{},"status":"","slots":0}`},
		{Instance{Tags: Tags{}, Ports: Ports{}, Meta: Meta{}, Leaving: true},
			`{"service":"","id":"","address":"","port":0,"ports":{},"weight":0,"tags":[],"meta":{},"status":"","slots":0,"leaving":true}`},
		{Endpoint{ID: "web-1", Address: "10.0.0.5", Port: 8080, Weight: 1, Status: Passing},
			`{"id":"web-1","address":"10.0.0.5","port":8080,"ports":{},"weight":1,"tags":[],"meta":{},"status":"passing"}`},
		{Override{}, `{}`},
		{Override{State: Drain, Weight: new(int), Tags: Tags{}, Meta: Meta{"Team": "x"}}, `{"state":"drain","weight":0,"tags":[],"meta":{"Team":"x"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			if got, err := json.Marshal(tt.value); err != nil || string(got) != tt.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
	if got := full.Encode(); string(got) != tests[0].want {
		t.Errorf("Encode: got %s", got)
	}
}

func TestWorst(t *testing.T) {
	tests := []struct {
		statuses []Status
		want     Status
	}{
		{nil, Passing},
		{[]Status{Passing, Warning, Passing}, Warning},
		{[]Status{Critical, Warning}, Critical},
		{[]Status{"bogus"}, Passing},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.statuses), func(t *testing.T) {
			if got := Worst(tt.statuses...); got != tt.want {
				t.Errorf("Worst(%v) = %q, want %q", tt.statuses, got, tt.want)
			}
		})
	}
}

func TestOverrideApply(t *testing.T) {
	record := Instance{Weight: 5, Tags: Tags{"v1"}, Meta: Meta{"Team": "core", "Tier": "1"}}
	tests := []struct {
		override string
		state    State
		weight   int
		tags     Tags
		meta     Meta
	}{
		{`{}`, Up, 5, Tags{"v1"}, record.Meta},
		{`{"state":"drain","later":true}`, Drain, 5, Tags{"v1"}, record.Meta},
		{`{"weight":0}`, Up, 0, Tags{"v1"}, record.Meta},
		{`{"tags":["v3","v4"]}`, Up, 5, Tags{"v3", "v4"}, record.Meta},
		{`{"tags":[]}`, Up, 5, Tags{}, record.Meta},
		{`{"tags":null,"meta":null}`, Up, 5, Tags{"v1"}, record.Meta},
		{`{"meta":{"Team":"x","New":"y"}}`, Up, 5, Tags{"v1"}, Meta{"Team": "x", "Tier": "1", "New": "y"}},
	}
	for _, tt := range tests {
		t.Run(tt.override, func(t *testing.T) {
			o, err := DecodeOverride([]byte(tt.override))
			if err != nil {
				t.Fatal(err)
			}
			got, state := o.Apply(record)
			if state != tt.state || got.Weight != tt.weight || !reflect.DeepEqual(got.Tags, tt.tags) || !reflect.DeepEqual(got.Meta, tt.meta) {
				t.Errorf("%s: got %+v, %s", tt.override, got, state)
			}
		})
	}
	if want := (Meta{"Team": "core", "Tier": "1"}); !reflect.DeepEqual(record.Meta, want) {
		t.Errorf("the record's meta became %v", record.Meta)
	}
}

func TestDecodeOverrideBroken(t *testing.T) {
	tests := []struct{ record, message string }{
		{`"drain"`, `decode override: json: cannot unmarshal string into Go value of type discovery.Override`},
		{`{"state":"off"}`, `state "off" is unknown; use up, drain or down`},
		{`{"weight":-1,"tags":["-"]}`, "weight -1 is out of range; use 0 to 65535\n" + `tag "-" begins with "-"; begin with a letter or digit`},
	}
	for _, tt := range tests {
		t.Run(tt.record, func(t *testing.T) {
			if _, err := DecodeOverride([]byte(tt.record)); !errors.Is(err, ErrInvalid) || err.Error() != tt.message {
				t.Errorf("%s: %v; want %s", tt.record, err, tt.message)
			}
		})
	}
}

func TestDecodeNode(t *testing.T) {
	n, err := DecodeNode([]byte(`{"node":"host-1","agent":"a1","version":"1.2","address":"10.0.0.1","zone":"a","started":"2026-01-02T03:04:05Z","os":"linux"}`))
	want := Node{Node: "host-1", Agent: "a1", Version: "1.2", Address: "10.0.0.1", Zone: "a", Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if err != nil || n != want {
		t.Errorf("got %+v, %v; want %+v", n, err, want)
	}
	tests := []struct{ record, message string }{
		{`[]`, `decode node: json: cannot unmarshal array into Go value of type discovery.Node`},
		{`{}`, `decode node: node name is empty; give 1 to 253 letters, digits or - _ . :`},
		{`{"node":"a","zone":"\n","address":"0.0.0.0"}`, `decode node: zone "\n" is too long or has control characters` + "\n" +
			`address 0.0.0.0 is unspecified; give the address that callers connect to`},
	}
	for _, tt := range tests {
		t.Run(tt.record, func(t *testing.T) {
			if _, err := DecodeNode([]byte(tt.record)); !errors.Is(err, ErrInvalid) || err.Error() != tt.message {
				t.Errorf("%s: %v; want %s", tt.record, err, tt.message)
			}
		})
	}
}

func FuzzDecodeInstance(f *testing.F) {
	f.Add(typicalRecord("web", 1))
	f.Add([]byte(`{"service":"web","id":"web-1","address":"::1","weight":0,"registered_at":"9999-12-31T23:59:59.9-23:59","ports":{"a":1},"tags":null}`))
	f.Add([]byte(`{"service":1}`))
	f.Add([]byte(`{"service":"web","id":"web-1","address":"::ffff:0.0.0.0"}`))
	f.Add([]byte(`{"service":"web","id":"web-1","address":"::ffff:10.0.0.5","meta":{"note":"a\n\u202e"}}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		i, err := DecodeInstance(record)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		again, err := DecodeInstance(i.Encode())
		if err != nil {
			t.Fatalf("%q is written as %q: %v", record, i.Encode(), err)
		}
		if !i.RegisteredAt.Equal(again.RegisteredAt) {
			t.Fatalf("%v became %v", i.RegisteredAt, again.RegisteredAt)
		}
		i.RegisteredAt, again.RegisteredAt = time.Time{}, time.Time{}
		if !reflect.DeepEqual(i, again) {
			t.Fatalf("%+v became %+v", i, again)
		}
	})
}

// typicalRecord returns a record of about 330 bytes, as an agent writes it.
func typicalRecord(service string, n int) []byte {
	return fmt.Appendf(nil, `{"service":%q,"id":"%s-%d","node":"host-%d","address":"10.0.%d.%d","port":8080,"ports":{},"zone":"eu-west-1a",`+
		`"weight":1,"tags":["v2"],"meta":{"Team":"core"},"status":"passing","checks":[{"id":"http","type":"http","status":"passing"}],`+
		`"slots":1,"owner":"owner-%016x","run":"run-%016x","registered_at":"2026-01-02T03:04:05Z"}`,
		service, service, n, n, n>>8&255, n&255, n, n)
}
