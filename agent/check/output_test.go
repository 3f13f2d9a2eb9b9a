package check

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"fine\n", "fine"},
		{"a\r\n\tb\x00", "a\n\tb\uFFFD"},
		{"10 %\r20 %", "10 %\n20 %"},
		{"\x1b[31mred\u009b0m\u007f", "\uFFFD[31mred\uFFFD0m\uFFFD"},
		{"a\u2028b\u202ec\u2066d", "a\uFFFDb\uFFFDc\uFFFDd"},
		{"bad \xff byte", "bad \uFFFD byte"},
		{strings.Repeat("x", 5000), strings.Repeat("x", 4096)},
		{"x" + strings.Repeat("ü", 3000), "x" + strings.Repeat("ü", 2047)},
		{strings.Repeat("\xff ", 4000), strings.TrimSpace(strings.Repeat("\uFFFD ", 1024))},
	} {
		t.Run(fmt.Sprintf("%.20q", test.in), func(t *testing.T) {
			got := sanitize(test.in)
			if got != test.want || len(got) > MaxOutput || !utf8.ValidString(got) {
				t.Errorf("clean(%.20q) is %.40q (%d bytes), want %.40q (%d bytes)", test.in, got, len(got), test.want, len(test.want))
			}
		})
	}
}

func TestHeadKeepsTheBeginning(t *testing.T) {
	var h headWriter
	for n := range 2000 {
		fmt.Fprintf(&h, "line %d\n", n)
	}
	if len(h.buf) != MaxOutput || !strings.HasPrefix(string(h.buf), "line 0\nline 1\n") {
		t.Errorf("kept %d bytes: %.20q", len(h.buf), h.buf)
	}
}

func TestRedact(t *testing.T) {
	var s secrets
	s.add("Bearer abcdefghij")
	s.add("abcdefgh")
	s.add("on") // too short to be a secret
	for in, want := range map[string]string{
		"got Bearer abcdefghij":  "got ***",
		"token abcdefghij, on":   "token ***, on",
		"abcdefgh":               "***",
		"nothing to see, Bearer": "nothing to see, Bearer",
	} {
		t.Run(in, func(t *testing.T) {
			if got := s.redact(in); got != want {
				t.Errorf("redact(%q) is %q, want %q", in, got, want)
			}
		})
	}
	if got := s.redactTruncated("long text that ends in Bearer abcdefg"); strings.Contains(got, "abc") {
		t.Errorf("a secret cut in two is left: %q", got)
	}
}
