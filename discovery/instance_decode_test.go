package discovery

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// full is an instance with a value in each field.
func full() Instance {
	return Instance{
		Service: "Web", ID: "web-1", Node: "host-1", Address: "10.0.0.5", Port: 8080, Ports: Ports{"admin": 9091, "grpc": 9090},
		Zone: "a", Weight: 0, Tags: Tags{"v2", "blue"}, Meta: Meta{"Team": "core", "tier": "1"}, Status: Warning,
		Checks: []CheckStatus{{ID: "http", Name: "alive", Type: CheckHTTP, Status: Passing}, {ID: "ttl", Type: CheckTTL, Status: Warning, Output: "\"é\" is <slow> \\o/"}},
		Slots:  4, Owner: "o1", Run: "r1", RegisteredAt: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC), Leaving: true, DeregisterAfter: Duration(time.Hour),
	}
}

// The output of Encode is decoded without encoding/json, whatever the instance has.
func TestDecodeCanonical(t *testing.T) {
	bare := Instance{Service: "web", ID: "web-1", Address: "::1", Weight: 1, Slots: 1, Status: Passing}
	for _, want := range []Instance{full(), bare} {
		var got Instance
		ok := decodeCanonical(want.Encode(), &got, &Instance{})
		got.dropEmpty()
		if !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %+v", want.Encode(), ok, got)
		}
	}
}

func TestEqualFieldsAreShared(t *testing.T) {
	like := full()
	record := full()
	record.ID, record.Meta["tier"] = "web-2", "2"
	var got Instance
	err := DecodeInstanceLike(record.Encode(), &got, &like)
	if err != nil || !reflect.DeepEqual(got, record) {
		t.Fatalf("%+v, %v", got, err)
	}
	if &got.Tags[0] != &like.Tags[0] || &got.Checks[0] != &like.Checks[0] || reflect.ValueOf(got.Ports).Pointer() != reflect.ValueOf(like.Ports).Pointer() {
		t.Error("equal lists are there twice")
	}
	if reflect.ValueOf(got.Meta).Pointer() == reflect.ValueOf(like.Meta).Pointer() || like.Meta["tier"] != "1" {
		t.Error("different meta is shared")
	}
}

// FuzzDecodeCanonical compares decodeCanonical with encoding/json.
func FuzzDecodeCanonical(f *testing.F) {
	record := full()
	f.Add(record.Encode())
	f.Add(typicalRecord("web", 1))
	for _, text := range []string{
		`{}`, `{"service":"web"}`, `{"id":"a","service":"b"}`, `{"port":007}`, `{"port":-1}`, `{"port":1e3}`, `{"weight":0}`, `{"slots":12345678901}`,
		`{"meta":{"b":"1","a":"2"}}`, `{"meta":{"a":"1","a":"2"}}`, `{"tags":["a",]}`, `{"tags":["\u0041"]}`, `{"zone":"é"}`, `{"leaving":false}`,
		`{"registered_at":"2026-01-02T03:04:05.6+01:00"}`, `{"registered_at":"never"}`, `{"checks":[{"id":"a"},{}]}`,
		`{"checks":[{"output":"\ud800\u00e9\"\\"},{"output":"é` + "\xff" + `"}]}`, `{"checks":[{"output":"a` + "\n" + `"}]}`, `{"checks":[{"output":"\"}]}`, `{"checks":[{"output":null}]}`, `{"status":"ill"}`, `{"service":"web"}x`,
		`{"tags":["v2","blue"],"meta":{"Team":"core","tier":"1"}}`, `{"ports":{"admin":9091,"grpc":9091}}`, `{"SERVICE":"web"}`, `{"tags":null}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		for _, like := range []Instance{{}, full()} {
			var got Instance
			if !decodeCanonical(text, &got, &like) {
				continue
			}
			want := Instance{Weight: 1, Slots: 1, Status: Passing}
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatalf("%s is read, but %v", text, err)
			}
			got.dropEmpty()
			want.dropEmpty()
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s is read as\n%+v, want\n%+v", text, got, want)
			}
		}
		if !bytes.Equal(text, before) {
			t.Fatal("reading changes the text")
		}
	})
}

// The output of another writer's check is decoded as an agent would write it, in either form of a record,
// and an instance that shares it stays as it is.
func TestDecodeCutsOutputs(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, tt := range []struct{ name, output, want string }{
		{"as an agent writes it", "disk <full>", "disk <full>"},
		{"long", long, long[:MaxCheckOutput]},
		{"control characters", "\x1b[31mred\u202e\nand more", "[31mred and more"},
	} {
		for form, space := range map[string]string{"canonical": "", "spaced": " "} {
			t.Run(tt.name+" "+form, func(t *testing.T) {
				failing := full()
				failing.Checks[1].Output = tt.output
				record := append(failing.Encode(), space...)
				like, err := DecodeInstance(record)
				if err != nil || like.Checks[1].Output != tt.want {
					t.Fatalf("%q, %v, want %q", like.Checks[1].Output, err, tt.want)
				}
				var again Instance
				if err := DecodeInstanceLike(record, &again, &like); err != nil || again.Checks[1].Output != tt.want {
					t.Errorf("like the first: %q, %v, want %q", again.Checks[1].Output, err, tt.want)
				}
			})
		}
	}
}
