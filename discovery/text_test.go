package discovery

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckOutput(t *testing.T) {
	long := strings.Repeat("é", MaxCheckOutput)
	for _, tt := range []struct{ name, output, want string }{
		{"text", "connection refused", "connection refused"},
		{"nothing", "", ""},
		{"white space alone", " \n\t\u2028 ", ""},
		{"lines are one", "  one\r\n\n\ttwo\u2028three \n", "one two three"},
		{"control characters", "a\x00b\x1b[31mred\x7f\u009b2J\u202eevil\u2066\a", "ab[31mred2Jevil"},
		{"what is not UTF-8", "a\xffb", "a\uFFFDb"},
		{"256 bytes", strings.Repeat("x", MaxCheckOutput), strings.Repeat("x", MaxCheckOutput)},
		{"257 bytes", strings.Repeat("x", MaxCheckOutput+1), strings.Repeat("x", MaxCheckOutput)},
		{"a character across the end", "x" + long, "x" + long[:MaxCheckOutput-2]},
		{"a space at the end", strings.Repeat("x", MaxCheckOutput-1) + " y", strings.Repeat("x", MaxCheckOutput-1)},
		{"control characters do not count", strings.Repeat("\x00", MaxCheckOutput) + "end", "end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := CheckOutput(tt.output)
			if got != tt.want || len(got) > MaxCheckOutput || !utf8.ValidString(got) || CheckOutput(got) != got {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
