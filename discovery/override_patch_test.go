package discovery

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestOverridePatch(t *testing.T) {
	const before = `{"state":"drain","weight":10,"tags":["v3"],"meta":{"a":"1","b":"2"}}`
	for _, c := range []struct{ patch, after string }{
		{`{}`, before},
		{`{"state":"up"}`, `{"state":"up","weight":10,"tags":["v3"],"meta":{"a":"1","b":"2"}}`},
		{`{"state":null,"weight":0}`, `{"weight":0,"tags":["v3"],"meta":{"a":"1","b":"2"}}`},
		{`{"tags":[],"weight":null}`, `{"state":"drain","tags":[],"meta":{"a":"1","b":"2"}}`},
		{`{"tags":null}`, `{"state":"drain","weight":10,"meta":{"a":"1","b":"2"}}`},
		{`{"meta":{"a":null,"b":"3","c":""}}`, `{"state":"drain","weight":10,"tags":["v3"],"meta":{"b":"3","c":""}}`},
		{`{"meta":null}`, `{"state":"drain","weight":10,"tags":["v3"]}`},
		{`{"state":null,"weight":null,"tags":null,"meta":{"a":null,"b":null}}`, `{}`},
	} {
		t.Run(c.patch, func(t *testing.T) {
			o, err := DecodeOverride([]byte(before))
			if err != nil {
				t.Fatal(err)
			}
			after, err := o.Patch([]byte(c.patch))
			if got, _ := json.Marshal(after); err != nil || string(got) != c.after {
				t.Errorf("%s gives %s, %v; want %s", c.patch, got, err, c.after)
			}
			if got, _ := json.Marshal(o); string(got) != before {
				t.Errorf("%s changed the receiver to %s", c.patch, got)
			}
			if after.Empty() != (c.after == `{}`) {
				t.Errorf("%s: empty is %v", c.patch, after.Empty())
			}
		})
	}
}

func TestOverridePatchRefuses(t *testing.T) {
	for patch, want := range map[string]string{
		`null`: "DELETE", `[]`: "not a JSON object", `{`: "not a JSON object", `{} {}`: "not a JSON object",
		`{"stat":"up"}`: `"stat"`, `{"state":1}`: "state", `{"state":"off"}`: `"off"`, `{"weight":1.5}`: "weight",
		`{"weight":65536}`: "65536", `{"tags":"a"}`: "tags", `{"meta":[]}`: "meta", `{"meta":{"a":{}}}`: "meta",
	} {
		t.Run(patch, func(t *testing.T) {
			if _, err := (Override{}).Patch([]byte(patch)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", patch, err)
			}
		})
	}
}
