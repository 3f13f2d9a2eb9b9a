package discovery

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxCheckOutput is the most bytes of a check's output in a record.
const MaxCheckOutput = 256

// CheckOutput returns the begin of a check's output as a record has it: one line of at most
// [MaxCheckOutput] bytes of UTF-8, without control characters (see [IsControl]). White space is one
// space, so that the words of two lines stay apart.
func CheckOutput(output string) string {
	line := make([]byte, 0, min(len(output), MaxCheckOutput+utf8.UTFMax))
	gap := false
	for _, r := range output { // what is not UTF-8 is U+FFFD here
		if unicode.IsSpace(r) {
			gap = len(line) > 0
			continue
		}
		if IsControl(r) {
			continue
		}
		end := len(line)
		if gap {
			line = append(line, ' ')
		}
		if line = utf8.AppendRune(line, r); len(line) > MaxCheckOutput {
			line = line[:end]
			break
		}
		gap = false
	}
	return string(line)
}

// IsControl reports whether a character acts on the text around it instead of being shown: a
// control character (C0, DEL, C1), a line or paragraph separator (U+2028, U+2029), or one of
// the bidirectional embeddings, overrides and isolates (UAX #9), with which a text reads other
// than it is. Texts of registrations have none of them. The marks U+200E, U+200F and U+061C,
// which texts in Arabic and Hebrew need, are no controls.
func IsControl(r rune) bool {
	return unicode.IsControl(r) || r >= '\u2028' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

// findControl returns the first control character of a text.
func findControl(s string) (r rune, found bool) {
	at := strings.IndexFunc(s, IsControl)
	if at < 0 {
		return 0, false
	}
	for _, r = range s[at:] {
		break
	}
	return r, true
}

// validateNoControl accepts text without control characters. what names the text in the error,
// which does not repeat it.
func validateNoControl(what, s string) error {
	if r, found := findControl(s); found {
		return Errorf(ErrInvalid, "%s has the character %U, which acts on the text around it; leave control characters out", what, r)
	}
	return nil
}

// validateText accepts text of records that a terminal shows on one line. It is the rule of the
// first version; [validateNoControl] is that for what is written.
func validateText(what, s string) error {
	if len(s) > MaxNode || strings.ContainsFunc(s, unicode.IsControl) {
		return Errorf(ErrInvalid, "%s %.40q is too long or has control characters", what, s)
	}
	return nil
}

// printable replaces the control characters of a text, for errors about records of others.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
