package kv

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"disc/discovery"
	"disc/discovery/reflector"
)

// Limits of keys and values, in bytes.
const (
	MaxKey   = 512
	MaxValue = 512 << 10
)

// ValidateKey returns an [discovery.ErrInvalid] unless s is a key: 1 to 512 bytes of
// UTF-8 without control characters, in segments divided by "/", none of which is empty,
// "." or "..".
func ValidateKey(s string) error {
	if key, ok := strings.CutSuffix(s, "/"); ok && validateKey(key) == nil {
		return discovery.Errorf(discovery.ErrInvalid, "%.60q is a prefix; name one key below it, or list it", s)
	}
	return validateKey(s)
}

func validateKey(s string) error {
	switch {
	case s == "":
		return discovery.Errorf(discovery.ErrInvalid, "the key is empty; give one, such as app/greeting")
	case len(s) > MaxKey:
		return discovery.Errorf(discovery.ErrInvalid, "key %.20q… has %d bytes; at most %d are allowed", s, len(s), MaxKey)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return discovery.Errorf(discovery.ErrInvalid, "key %.60q has control characters or is not UTF-8", s)
	}
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return discovery.Errorf(discovery.ErrInvalid, "key %.60q has an empty segment, or \".\" or \"..\"; divide segments by one \"/\", with none at either end", s)
		}
	}
	return nil
}

// ValidatePrefix returns an [discovery.ErrInvalid] unless s is a directory: a key followed
// by "/", or empty for everything.
func ValidatePrefix(s string) error {
	if s == "" {
		return nil
	}
	key, ok := strings.CutSuffix(s, "/")
	if !ok {
		return discovery.Errorf(discovery.ErrInvalid, "prefix %.60q does not end in \"/\"; write a directory as app/", s)
	}
	return validateKey(key)
}

// ValidateKeyOrPrefix returns an [discovery.ErrInvalid] unless s can be watched: it is a key or
// a prefix.
func ValidateKeyOrPrefix(s string) error {
	if isPrefix(s) {
		return ValidatePrefix(s)
	}
	return ValidateKey(s)
}

// directory returns the range to cache when a key is read: its directory, or the key alone
// if it is at the top, where there may be anything.
func (s *Store) directory(key string) reflector.Range {
	if n := strings.LastIndexByte(key, '/'); n >= 0 {
		return s.prefixRange(key[:n+1])
	}
	return s.keyRange(key)
}

// prefixRange returns the range of the keys below a prefix.
func (s *Store) prefixRange(prefix string) reflector.Range {
	return reflector.Prefix(s.prefix + prefix)
}

// keyRange returns the range of a single key.
func (s *Store) keyRange(key string) reflector.Range {
	return reflector.Range{From: s.prefix + key, To: s.prefix + key + "\x00"}
}
