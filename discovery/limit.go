package discovery

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// Limit is the policy of a fleet-wide rate limit: in any window W the whole fleet is
// admitted to at most Rate × W / Per + Burst.
type Limit struct {
	Rate          float64           `json:"rate"` // tokens each Per, above 0; decimals are fine
	Per           Duration          `json:"per"`  // default 1 s; 1 ms to 24 h
	Burst         int64             `json:"burst"`
	OnUnavailable UnavailablePolicy `json:"on_unavailable"`
}

// UnavailablePolicy is what becomes of a take while etcd is away.
type UnavailablePolicy string

// What becomes of a take while etcd is away.
const (
	DenyUnavailable  UnavailablePolicy = "deny"  // the limit is kept
	AllowUnavailable UnavailablePolicy = "allow" // the limit is not kept
)

// The bounds of a [Limit].
const (
	MaxLimitRate  = 1e6 // tokens a second
	MaxLimitBurst = 1_000_000_000
	minLimitPer   = time.Millisecond
	maxLimitPer   = 24 * time.Hour
	minLimitRate  = 1.0 / (7 * 24 * 3600) // tokens a second: one a week
)

// ValidateLimit returns an [ErrInvalid] unless s may name a limit: the rule is that of
// [ValidateID].
func ValidateLimit(s string) error { return validate("limit name", s, "-_.:", MaxID) }

// WithDefaults fills in what is not set: one second, a burst of what the limit allows
// in a second but at least 1, and deny.
func (l Limit) WithDefaults() Limit {
	if l.Per == 0 {
		l.Per = Duration(time.Second)
	}
	if l.Burst == 0 && l.Per > 0 {
		l.Burst = int64(min(max(1, math.Floor(l.PerSecond())), MaxLimitBurst))
	}
	if l.OnUnavailable == "" {
		l.OnUnavailable = DenyUnavailable
	}
	return l
}

// PerSecond is the rate in tokens a second.
func (l Limit) PerSecond() float64 { return l.Rate / time.Duration(l.Per).Seconds() }

// Validate returns an [ErrInvalid] that says what is wrong with a limit.
func (l Limit) Validate() error {
	per, perSecond := time.Duration(l.Per), l.PerSecond()
	switch {
	case !(l.Rate > 0) || math.IsInf(l.Rate, 0):
		return Errorf(ErrInvalid, "limit: rate %v is none; give the tokens that are allowed in each per, such as 50", l.Rate)
	case per < minLimitPer || per > maxLimitPer:
		return Errorf(ErrInvalid, "limit: per %v is out of range; use %v to %v", l.Per, Duration(minLimitPer), Duration(maxLimitPer))
	case perSecond > MaxLimitRate:
		return Errorf(ErrInvalid, "limit: a rate of %v each %v is above %d a second; a limit that high is better kept by each process", l.Rate, l.Per, int(MaxLimitRate))
	case perSecond < minLimitRate:
		return Errorf(ErrInvalid, "limit: a rate of %v each %v is below one a week", l.Rate, l.Per)
	case l.Burst < 1 || l.Burst > MaxLimitBurst:
		return Errorf(ErrInvalid, "limit: burst %d is out of range; use 1 to %d", l.Burst, MaxLimitBurst)
	case l.OnUnavailable != DenyUnavailable && l.OnUnavailable != AllowUnavailable:
		return Errorf(ErrInvalid, "limit: on_unavailable %q is none; use %s or %s", l.OnUnavailable, DenyUnavailable, AllowUnavailable)
	}
	return nil
}

// DecodeLimit reads a limit from etcd. Fields that this version does not know are
// ignored.
func DecodeLimit(value []byte) (Limit, error) {
	var l Limit
	if err := json.Unmarshal(value, &l); err != nil {
		return Limit{}, fmt.Errorf("decode limit: %w", err)
	}
	l = l.WithDefaults()
	return l, l.Validate()
}

// ParseRate reads a rate as "50", "50/s", "100/m", "5/500ms" or "1/2h": tokens, and the
// time they are for, a second where none is given.
func ParseRate(s string) (rate float64, per Duration, err error) {
	tokens, unit, divided := strings.Cut(s, "/")
	per = Duration(time.Second)
	if n, err := fmt.Sscanf(tokens+"\n", "%g\n", &rate); n != 1 || err != nil {
		return 0, 0, Errorf(ErrInvalid, "rate %q is none; write it as 50/s, 100/m or 5/500ms", s)
	}
	if !divided {
		return rate, per, nil
	}
	if unit != "" && !strings.ContainsAny(unit[:1], "0123456789.") {
		unit = "1" + unit
	}
	if err := per.UnmarshalText([]byte(unit)); err != nil {
		return 0, 0, Errorf(ErrInvalid, "rate %q is none; write it as 50/s, 100/m or 5/500ms", s)
	}
	return rate, per, nil
}

// Decision is what became of a take.
type Decision struct {
	Limit   Limit
	Granted bool
	// Remaining is how many tokens this agent could have admitted now, as far as it
	// knows; another may be faster.
	Remaining int64
	// RetryAfter is, when not granted, when the take may be admitted at the earliest.
	RetryAfter time.Duration
	// Full is when the whole burst is there again if nobody takes from it.
	Full time.Duration
	// Unavailable: etcd is away, and the limit's OnUnavailable has decided.
	Unavailable bool
}

// Take is a take of N tokens of a limit; N is at least 1.
type Take struct {
	Limit string
	N     int64
}
