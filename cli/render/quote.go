package render

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"disc/discovery"
)

// The quoting functions return text as one word or one value of a format, whatever the text is.
// What a format cannot express is an error. The error says where in the text it is, and not
// the text, which may be a secret.

// maxNginxWord is the greatest length of a quoted word, in bytes. nginx reads its
// configuration in pieces of 4096 bytes, and a word must fit into one.
const maxNginxWord = 4000

// shellQuote quotes a word for a POSIX shell: in single quotes everything is literal.
func shellQuote(text string) (string, error) {
	if at := strings.IndexByte(text, 0); at >= 0 {
		return "", cannotQuote(text, at, "a shell")
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'", nil
}

// nginxQuote quotes a parameter of a directive of nginx. nginx replaces variables within
// quotes too, and cannot escape a dollar sign. Control characters would end a header.
func nginxQuote(text string) (string, error) {
	if at := strings.IndexFunc(text, func(r rune) bool { return r == '$' || isControl(r) }); at >= 0 {
		return "", cannotQuote(text, at, "nginx")
	}
	quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
	if len(quoted) > maxNginxWord {
		return "", discovery.Errorf(discovery.ErrInvalid, "the text has %d bytes with its quotes; nginx reads at most %d in one word", len(quoted), maxNginxWord)
	}
	return quoted, nil
}

// haproxyQuote quotes a word of HAProxy's configuration, in strong quotes. Some words are
// formats of log lines, in which a percent sign calls functions, and others are not: it
// would have to be doubled in those alone.
func haproxyQuote(text string) (string, error) {
	if at := strings.IndexFunc(text, func(r rune) bool { return r == '%' || isControl(r) }); at >= 0 {
		return "", cannotQuote(text, at, "HAProxy")
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'", nil
}

// isControl reports whether a character is a control character of ASCII.
func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// toYAML returns a value in YAML's flow style, on one line: JSON, which YAML 1.2 contains,
// with escapes for what readers of YAML 1.1 refuse or take for line breaks.
func toYAML(v any) (string, error) {
	text, err := toJSON(v)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf && r != 0x7f, unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(`\U`)
			for shift := 28; shift >= 0; shift -= 4 {
				b.WriteByte("0123456789abcdef"[r>>shift&0xf])
			}
		}
	}
	return b.String(), nil
}

// cannotQuote is the error for the character at a byte of the text.
func cannotQuote(text string, at int, format string) error {
	r, _ := utf8.DecodeRuneInString(text[at:])
	return discovery.Errorf(discovery.ErrInvalid, "character %q at byte %d of the text cannot be quoted for %s; replace it by replaceAll, or mend the record", r, at+1, format)
}
