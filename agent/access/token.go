package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"disc/discovery"
)

// tokenPrefix begins each token of [NewToken], so that programs that look for secrets in the
// wrong places know one when they see it.
const tokenPrefix = "disc_"

// NewToken returns a new token: "disc_" and 26 random characters of base32 (RFC 4648), 130
// bits.
func NewToken() string { return tokenPrefix + strings.ToLower(rand.Text()) }

// Digest is the SHA-256 of a token (FIPS 180-4). Its text is 64 hexadecimal digits. Printing
// it shows none of them.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a token.
func DigestOf(token string) Digest { return sha256.Sum256([]byte(token)) }

// Hex returns the text of a digest, in lower case.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// String returns no part of the digest: of a token that is easy to guess, its digest is too
// much to show.
func (Digest) String() string { return "[sha256]" }

// GoString is [Digest.String].
func (d Digest) GoString() string { return d.String() }

// UnmarshalText parses 64 hexadecimal digits. ErrInvalid: the text is something else, or the
// digest of an empty token. The error does not repeat the text, which may be a token.
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(d) {
		return discovery.Errorf(discovery.ErrInvalid, "the value is not the SHA-256 of a token in %d hexadecimal digits; 'disc token' makes both", 2*len(d))
	}
	if Digest(b) == DigestOf("") {
		return discovery.Errorf(discovery.ErrInvalid, "the value is the SHA-256 of an empty text; 'disc token' makes a token and its hash")
	}
	*d = Digest(b)
	return nil
}
