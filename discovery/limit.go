package discovery

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Limit is the policy of a fleet-wide rate limit, a token bucket: in any window W, the
// fleet is granted at most Rate × W / Per + Burst tokens.
type Limit struct {
	Rate          float64           `json:"rate"`  // tokens for each Per, above 0; may be a fraction
	Per           Duration          `json:"per"`   // default 1 s; 1 ms to 24 h
	Burst         int64             `json:"burst"` // tokens, 1 to MaxLimitBurst; default those of a second
	OnUnavailable UnavailablePolicy `json:"on_unavailable"`
}

// UnavailablePolicy is the decision about a take while etcd is unavailable.
type UnavailablePolicy string

// The policies while etcd is unavailable.
const (
	DenyUnavailable  UnavailablePolicy = "deny"  // deny the take: the limit holds
	AllowUnavailable UnavailablePolicy = "allow" // grant the take: the limit may be exceeded
)

// The bounds of a [Limit].
const (
	MaxLimitRate  = 1e6 // tokens a second
	MaxLimitBurst = 1_000_000_000
	minLimitPer   = time.Millisecond
	maxLimitPer   = 24 * time.Hour
	MinLimitRate  = 1.0 / (7 * 24 * 3600) // tokens a second: one a week
)

// ValidateLimit returns an [ErrInvalid] unless s may name a limit, by the rule of
// [ValidateID].
func ValidateLimit(s string) error { return validate("limit name", s, "-_.:", MaxID) }

// WithDefaults returns the limit with its absent fields filled in: a Per of one second, a
// burst of the tokens of one second but at least 1, and deny.
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

// PerSecond returns the rate in tokens a second.
func (l Limit) PerSecond() float64 { return l.Rate / time.Duration(l.Per).Seconds() }

// Validate returns an [ErrInvalid] that names the first thing wrong with the limit.
func (l Limit) Validate() error {
	per, perSecond := time.Duration(l.Per), l.PerSecond()
	switch {
	case !(l.Rate > 0) || math.IsInf(l.Rate, 0):
		return Errorf(ErrInvalid, "limit: rate %v is out of range; give the tokens that are allowed in each per, such as 50", l.Rate)
	case per < minLimitPer || per > maxLimitPer:
		return Errorf(ErrInvalid, "limit: per %v is out of range; use %v to %v", l.Per, Duration(minLimitPer), Duration(maxLimitPer))
	case perSecond > MaxLimitRate:
		return Errorf(ErrInvalid, "limit: a rate of %v each %v is above %d a second; let each process limit itself", l.Rate, l.Per, int(MaxLimitRate))
	case perSecond < MinLimitRate:
		return Errorf(ErrInvalid, "limit: a rate of %v each %v is below one a week", l.Rate, l.Per)
	case l.Burst < 1 || l.Burst > MaxLimitBurst:
		return Errorf(ErrInvalid, "limit: burst %d is out of range; use 1 to %d", l.Burst, MaxLimitBurst)
	case l.OnUnavailable != DenyUnavailable && l.OnUnavailable != AllowUnavailable:
		return Errorf(ErrInvalid, "limit: on_unavailable %q is unknown; use %s or %s", l.OnUnavailable, DenyUnavailable, AllowUnavailable)
	}
	return nil
}

// DecodeLimit decodes a limit as etcd stores it, ignoring unknown fields, and fills in
// its defaults. A limit out of range is an [ErrInvalid].
func DecodeLimit(value []byte) (Limit, error) {
	var l Limit
	if err := json.Unmarshal(value, &l); err != nil {
		return Limit{}, fmt.Errorf("decode limit: %w", err)
	}
	l = l.WithDefaults()
	return l, l.Validate()
}

// ParseRate parses a rate such as "50", "50/s", "100/m", "5/500ms" or "1/2h": tokens, and
// the time in which they are granted, by default a second. Its error is an [ErrInvalid].
func ParseRate(s string) (rate float64, per Duration, err error) {
	tokens, unit, divided := strings.Cut(s, "/")
	per = Duration(time.Second)
	if n, err := fmt.Sscanf(tokens+"\n", "%g\n", &rate); n != 1 || err != nil {
		return 0, 0, Errorf(ErrInvalid, "rate %q is not a rate; write it as 50/s, 100/m or 5/500ms", s)
	}
	if !divided {
		return rate, per, nil
	}
	if unit != "" && !strings.ContainsAny(unit[:1], "0123456789.") {
		unit = "1" + unit
	}
	if err := per.UnmarshalText([]byte(unit)); err != nil || per == 0 {
		return 0, 0, Errorf(ErrInvalid, "rate %q is not a rate; write it as 50/s, 100/m or 5/500ms", s)
	}
	return rate, per, nil
}

// Decision is the answer to a take.
type Decision struct {
	Limit   Limit
	Granted bool
	// Remaining is the number of tokens that are left, as far as this agent knows;
	// another agent may take them first.
	Remaining int64
	// RetryAfter is the time until a denied take should be tried again: it can be granted
	// then, at the earliest. Callers that obey it all get tokens in their turn.
	RetryAfter time.Duration
	// Contended reports that others were denied, too.
	Contended bool
	// Full is the time until the whole burst is available again if nobody takes tokens.
	Full time.Duration
	// Unavailable reports that the take cannot be counted in etcd and that the limit's
	// OnUnavailable decided.
	Unavailable bool
	Cause       error // why it cannot be counted
}

// RetrySeconds returns RetryAfter in whole seconds, rounded up, for HTTP's Retry-After. Where
// others were denied too, it is a random one later, so that callers that come in whole
// seconds do not come in the same order each time.
func (d Decision) RetrySeconds() int64 {
	s := int64((d.RetryAfter + time.Second - 1) / time.Second)
	if d.Contended {
		s += rand.Int64N(2)
	}
	return s
}

// Take asks for N tokens of a limit; N is at least 1.
type Take struct {
	Limit string
	N     int64
}
