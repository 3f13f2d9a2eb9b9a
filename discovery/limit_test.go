package discovery

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]struct {
		rate float64
		per  time.Duration
	}{
		"50": {50, time.Second}, "50/s": {50, time.Second}, "100/m": {100, time.Minute}, "5/500ms": {5, 500 * time.Millisecond},
		"1/2h": {1, 2 * time.Hour}, "0.5/s": {0.5, time.Second}, "1e3/s": {1000, time.Second},
	} {
		t.Run(text, func(t *testing.T) {
			rate, per, err := ParseRate(text)
			if err != nil || rate != want.rate || time.Duration(per) != want.per {
				t.Errorf("%q: %v each %v, %v", text, rate, per, err)
			}
		})
	}
	for _, text := range []string{"", "fast", "50/", "50/day", "50s", "1/0s", "1/0", "/s", "1/2/3", "5 0"} {
		t.Run(text, func(t *testing.T) {
			if rate, per, err := ParseRate(text); !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v each %v, %v", text, rate, per, err)
			}
		})
	}
}

func TestLimitDefaults(t *testing.T) {
	for _, c := range []struct{ rate, burst int64 }{{50, 50}, {1, 1}, {100, 100}} {
		t.Run(fmt.Sprint(c.rate), func(t *testing.T) {
			l := Limit{Rate: float64(c.rate)}.WithDefaults()
			if err := l.Validate(); err != nil || l.Burst != c.burst || time.Duration(l.Per) != time.Second || l.OnUnavailable != DenyUnavailable {
				t.Errorf("%+v, %v", l, err)
			}
		})
	}
	slow := Limit{Rate: 1, Per: Duration(time.Hour)}.WithDefaults()
	if slow.Burst != 1 || slow.Validate() != nil {
		t.Errorf("%+v", slow)
	}
}

func TestDecodeLimit(t *testing.T) {
	if l, err := DecodeLimit([]byte(`{"rate":1,"later":"field"}`)); err != nil || l.Rate != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	for _, text := range []string{``, `{}`, `[]`, `{"rate":-1}`, `{"rate":1,"per":"x"}`, `{"rate":1,"burst":0.5}`} {
		t.Run(text, func(t *testing.T) {
			if l, err := DecodeLimit([]byte(text)); err == nil {
				t.Errorf("%s: %+v", text, l)
			}
		})
	}
}
