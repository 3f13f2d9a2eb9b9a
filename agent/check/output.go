package check

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"disc/discovery"
)

// MaxOutput is the most bytes of a check's output that are kept.
const MaxOutput = 4096

// lineEnds are the line ends of other systems, which become \n.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// sanitize returns output that is safe to keep and to print on a terminal: valid UTF-8, in which
// U+FFFD stands for each control character (see [discovery.IsControl]) except \n and \t, at most
// [MaxOutput] bytes, trimmed.
func sanitize(output string) string {
	output = strings.Map(func(r rune) rune {
		if discovery.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, lineEnds.Replace(strings.ToValidUTF8(output, "\uFFFD")))
	output = strings.TrimSpace(output)
	if len(output) <= MaxOutput {
		return output
	}
	end := MaxOutput
	for !utf8.RuneStart(output[end]) {
		end--
	}
	return strings.TrimSpace(output[:end])
}

// firstLine returns output up to its first line break.
func firstLine(output string) string {
	line, _, _ := strings.Cut(output, "\n")
	return line
}

// headWriter keeps the first [MaxOutput] bytes and discards the rest, so that a verbose command
// neither fills the memory nor gets a broken pipe.
type headWriter struct{ buf []byte }

func (h *headWriter) Write(p []byte) (int, error) {
	h.buf = append(h.buf, p[:min(len(p), MaxOutput-len(h.buf))]...)
	return len(p), nil
}

// secrets are strings that a check's output must not show, longest first: one may contain
// another.
type secrets []string

// add adds a secret of at least 4 bytes, and its words of at least 8: a server may echo a part
// of "Bearer abc…".
func (s *secrets) add(text string) {
	found := []string{text}
	for word := range strings.FieldsSeq(text) {
		if len(word) >= 8 {
			found = append(found, word)
		}
	}
	for _, f := range found {
		if len(f) >= 4 {
			*s = append(*s, f)
		}
	}
	slices.SortStableFunc(*s, func(a, b string) int { return len(b) - len(a) })
}

// redact replaces every secret by ***.
func (s secrets) redact(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}

// redactTruncated redacts a text that was cut off, and drops its end, which may be the
// beginning of a secret.
func (s secrets) redactTruncated(text string) string {
	longest := 0
	for _, secret := range s {
		longest = max(longest, len(secret))
	}
	text = s.redact(text)
	return text[:max(0, len(text)-longest)]
}
