package discovery

import (
	"strings"
	"time"
)

// Duration is a [time.Duration] that is written as a string, "10s", in JSON and YAML.
type Duration time.Duration

// MarshalText writes the duration as [Duration.String] does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what [time.ParseDuration] reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return Errorf(ErrInvalid, "duration %q is not one; write it as 500ms, 10s or 1h30m", text)
	}
	*d = Duration(v)
	return nil
}

// String writes the duration as [time.Duration.String] does, without units of which there
// are none behind others: 1m and not 1m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
