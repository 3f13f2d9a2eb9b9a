// Package access decides who may do what at an agent's API. It is pure: it opens no file and
// no connection, and knows no protocol.
//
// A [Policy] has named tokens and certificates, each with [Scope]s, and says what callers
// with neither may do. [Policy.Authorize] names the caller of a request, or says why it is
// refused. An [Authenticator] holds the policy in force, so that a reload can replace it.
//
//	p := access.NewPolicy(tokens, clients, anonymous)
//	caller, err := p.Authorize(access.Credentials{Token: token}, access.Register, "web")
//
// Tokens are compared by their SHA-256. A token of [NewToken] has more than 128 random bits:
// nobody can find it from its hash, so that a plain hash is enough, without salt or
// stretching, and may stand in a config file that others can read. A hash of a password that
// a person chose may not: it can be guessed.
package access
