package check

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxOutput is how many bytes of a check's output are kept.
const MaxOutput = 4096

// sanitize makes output fit to be kept and shown: valid UTF-8 without control
// characters (it ends up on terminals), at most [MaxOutput] bytes.
func sanitize(output string) string {
	output = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(output, "\uFFFD"))
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

func firstLine(output string) string {
	line, _, _ := strings.Cut(output, "\n")
	return line
}

// headWriter is a writer that keeps the first [MaxOutput] bytes and swallows the rest, so
// that a talkative command neither fills the memory nor meets a broken pipe.
type headWriter struct{ buf []byte }

func (h *headWriter) Write(p []byte) (int, error) {
	h.buf = append(h.buf, p[:min(len(p), MaxOutput-len(h.buf))]...)
	return len(p), nil
}

// secrets are texts that may not appear in a check's output.
type secrets []string

// add takes a secret and, since a server may echo a part of "Bearer abc…", the words
// of it that are long enough to be one. The longest come first: one may hold another.
func (s *secrets) add(text string) {
	found := []string{text}
	for _, word := range strings.Fields(text) {
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

func (s secrets) redact(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}

// redactTruncated redacts a text that was cut off at its end: what may be the beginning of
// a secret there goes as well.
func (s secrets) redactTruncated(text string) string {
	longest := 0
	for _, secret := range s {
		longest = max(longest, len(secret))
	}
	text = s.redact(text)
	return text[:max(0, len(text)-longest)]
}
