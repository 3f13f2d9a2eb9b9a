package cli

import (
	"strings"
	"testing"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":        "plain text",
		"Grüße, 世界":         "Grüße, 世界",
		"\x1b[31mred\x1b[m": "\ufffd[31mred\ufffd[m",
		"a\nb\tc":           "a\ufffdb\ufffdc",
		"\u009b31m":         "\ufffd31m",
		"\u202egnp.exe":     "\ufffdgnp.exe",
	} {
		t.Run(in, func(t *testing.T) {
			if got := printable(in); got != want {
				t.Errorf("printable(%q) = %q, want %q", in, got, want)
			}
		})
	}
	if got := printableText("a\nb\tc\x1b"); got != "a\nb\tc\ufffd" {
		t.Errorf("printableText returns %q", got)
	}
}

func TestEscapeControls(t *testing.T) {
	if got := string(escapeControls([]byte("{\"a\":\"x\u007f\u009by世\u202ez\"}\n"))); got != "{\"a\":\"x\\u007f\\u009by世\\u202ez\"}\n" {
		t.Errorf("got %q", got)
	}
}

func TestDisplayWidth(t *testing.T) {
	for in, want := range map[string]int{"": 0, "abc": 3, "äö": 2, "世界": 4, "e\u0301": 1, "→": 1} {
		t.Run(in, func(t *testing.T) {
			if got := displayWidth(in); got != want {
				t.Errorf("displayWidth(%q) = %d, want %d", in, got, want)
			}
		})
	}
}

func TestRowsAlign(t *testing.T) {
	var out buffer
	rows := [][]string{{"ID", "STATUS", "ZONE"}, {"世界", "passing", "a"}, {"web-1", "critical", "-"}, {"x", "warning", ""}}
	if err := writeRows(&IO{Out: &out, Color: true}, rows); err != nil {
		t.Fatal(err)
	}
	want := "ID     STATUS    ZONE\n" +
		"世界   \x1b[32mpassing\x1b[0m   a\n" +
		"web-1  \x1b[31mcritical\x1b[0m  -\n" +
		"x      \x1b[33mwarning\x1b[0m\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if strings.Contains((&IO{}).paint("passing"), "\x1b") {
		t.Error("colours without a terminal that supports them")
	}
}
