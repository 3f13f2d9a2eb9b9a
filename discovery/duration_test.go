package discovery

import (
	"testing"
	"time"
)

func TestDurationText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", 10 * time.Second: "10s", 1500 * time.Millisecond: "1.5s", 500 * time.Millisecond: "500ms",
		time.Minute: "1m", 10 * time.Minute: "10m", 90 * time.Second: "1m30s", time.Hour: "1h", 100 * time.Minute: "1h40m",
		time.Hour + time.Second: "1h0m1s", 20 * time.Hour: "20h", -time.Minute: "-1m",
	} {
		text, err := Duration(d).MarshalText()
		if err != nil || string(text) != want {
			t.Errorf("%v is %q, %v; want %q", d, text, err, want)
		}
		var back Duration
		if err := back.UnmarshalText(text); err != nil || time.Duration(back) != d {
			t.Errorf("%q is read as %v, %v", text, back, err)
		}
	}
}
