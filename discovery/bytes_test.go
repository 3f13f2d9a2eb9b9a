package discovery

import (
	"errors"
	"testing"
)

func TestBytesText(t *testing.T) {
	for _, test := range []struct {
		text string
		is   Bytes
		want string
	}{
		{"0", 0, "0"}, {"1", 1, "1B"}, {"1023B", 1023, "1023B"}, {"1024", 1024, "1KiB"}, {"256MiB", 256 << 20, "256MiB"},
		{"2 GiB", 2 << 30, "2GiB"}, {"1536KiB", 1536 << 10, "1.5MiB"}, {"1000000", 1000000, "976.6KiB"}, {"3TiB", 3 << 40, "3TiB"},
	} {
		t.Run(test.text, func(t *testing.T) {
			if got, err := ParseBytes(test.text); err != nil || got != test.is || got.String() != test.want {
				t.Errorf("%d, %q, %v; want %d, %q", got, got, err, test.is, test.want)
			}
		})
	}
	for _, bad := range []string{"", "-1", "MiB", "1.5MiB", "1MB", "9223372036854775808", "9007199254740992KiB"} {
		if got, err := ParseBytes(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q is read as %d, %v", bad, got, err)
		}
	}
}
