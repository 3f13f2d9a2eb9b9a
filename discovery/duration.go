package discovery

import (
	"strings"
	"time"
)

// Duration is a [time.Duration] that is written as a string, "10s", in JSON and YAML.
type Duration time.Duration

// MarshalText returns the form of [Duration.String].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText parses the duration as [time.ParseDuration] does. Its error is an
// [ErrInvalid].
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return Errorf(ErrInvalid, "%q is not a duration; write it as 500ms, 10s or 1h30m", text)
	}
	*d = Duration(v)
	return nil
}

// String returns the form of [time.Duration.String] without trailing zero units: 1m
// instead of 1m0s.
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
