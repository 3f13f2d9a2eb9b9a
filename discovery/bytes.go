package discovery

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a number of bytes that is written with a unit, "256MiB".
type Bytes int64

// units are the units of [Bytes], the largest first.
var units = []struct {
	name string
	size Bytes
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseBytes parses a whole number of bytes, at least 0, with a unit of KiB, MiB, GiB, TiB
// or B, or without one. Its error is an [ErrInvalid].
func ParseBytes(text string) (Bytes, error) {
	digits, unit := text, Bytes(1)
	for _, u := range units {
		if number, ok := strings.CutSuffix(text, u.name); ok {
			digits, unit = strings.TrimSpace(number), u.size
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || Bytes(n) > math.MaxInt64/unit {
		return 0, Errorf(ErrInvalid, "%q is not a number of bytes; write it as 256MiB, 2GiB or 65536", text)
	}
	return Bytes(n) * unit, nil
}

// String returns the number in the largest unit of which it has at least one, with at most
// one decimal.
func (b Bytes) String() string {
	for _, u := range units {
		if b >= u.size {
			number := strconv.FormatFloat(float64(b)/float64(u.size), 'f', 1, 64)
			return strings.TrimSuffix(number, ".0") + u.name
		}
	}
	return fmt.Sprint(int64(b))
}
