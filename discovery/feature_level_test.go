package discovery

import (
	"errors"
	"strings"
	"testing"
)

func TestLevelRecord(t *testing.T) {
	r, err := DecodeLevel([]byte(`{"level":2,"target":3,"of_a_later_version":{"a":1},"behind":[{"node":"n","agent":"a","level":2,"seen":"2026-01-02T03:04:05Z"}]}`))
	if err != nil || r.Level != 2 || r.Target != 3 || len(r.Behind) != 1 || r.Behind[0].Node != "n" {
		t.Fatalf("%+v, %v", r, err)
	}
	r.Level, r.Target, r.Behind = 3, 0, nil
	if got := string(r.Encode()); got != `{"level":3,"of_a_later_version":{"a":1}}` {
		t.Errorf("encoded as %s", got)
	}
	for name, value := range map[string]string{
		"empty": "", "no object": "2", "no level": "{}", "level 0": `{"level":0}`, "negative": `{"level":2,"clean":-1}`, "a text": `{"level":"2"}`, "null": "null", "too long": `{"level":2,"a":"` + strings.Repeat("a", MaxLevelRecord) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := DecodeLevel([]byte(value)); !errors.Is(err, ErrInvalid) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	long := `{"level":1,"behind":[` + strings.Repeat(`{"node":"n"},`, 99) + `{"node":"n"}]}`
	if r, err := DecodeLevel([]byte(long)); err != nil || len(r.Behind) != MaxBehind {
		t.Errorf("%d agents, %v", len(r.Behind), err)
	}
	hostile := `{"level":1,"clean":9223372036854775807,"more":9223372036854775807,"behind":[{"node":"bad name"},{"node":"n","agent":"\u001b[2J"},{"node":"n","version":"` + strings.Repeat("v", 300) + `"},{"node":"good"}]}`
	r, err = DecodeLevel([]byte(hostile))
	if err != nil || r.Clean+1 < r.Clean || r.More+MaxBehind < r.More || len(r.Behind) != 1 || r.Behind[0].Node != "good" {
		t.Errorf("%+v, %v", r, err)
	}
}

// An agent whose record names no level is of the first.
func TestReadableLevel(t *testing.T) {
	for record, want := range map[string]int{`{"node":"n","agent":"a"}`: 1, `{"node":"n","agent":"a","level":-3}`: 1, `{"node":"n","agent":"a","level":2}`: 2} {
		if n, err := DecodeNode([]byte(record)); err != nil || n.ReadableLevel() != want {
			t.Errorf("%s: level %d, %v", record, n.ReadableLevel(), err)
		}
	}
}
