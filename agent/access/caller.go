package access

import (
	"fmt"

	"disc/discovery"
)

// The ways in which a caller shows who it is.
const (
	ByToken       = "token"
	ByCertificate = "certificate"
)

// Caller is who makes a request. The zero value may do nothing.
type Caller struct {
	Name  string // of the token, or in the certificate; [Anonymous]: neither
	Entry string // of the policy, one of few; "": a certificate that has none
	By    string // ByToken, ByCertificate or ""

	own       *scopes
	everybody *scopes
}

// Unrestricted is the caller of an agent without a policy. It may do all but [Operate]; what
// it may do of that is for the resource to say.
var Unrestricted = Caller{Name: Anonymous, Entry: Anonymous, everybody: newScopes([]Scope{
	{Action: Read}, {Action: Status}, {Action: Register}, {Action: KV}, {Action: Lock}, {Action: Claim}, {Action: Take},
})}

// Allows reports whether the caller may do an action on a subject; "" is everything.
func (c Caller) Allows(a Action, subject string) bool {
	return c.own != nil && c.own.allow(a, subject) || c.everybody != nil && c.everybody.allow(a, subject)
}

func (c Caller) allowsSome(a Action) bool {
	return c.own != nil && c.own.allowSome(a) || c.everybody != nil && c.everybody.allowSome(a)
}

// Check returns a [*DeniedError] unless the caller may do an action on a subject.
func (c Caller) Check(a Action, subject string) error {
	if c.Allows(a, subject) {
		return nil
	}
	return &DeniedError{Caller: c, Action: a, Subject: subject}
}

// DeniedError says why a request is refused. It is an ErrForbidden.
type DeniedError struct {
	Caller       Caller // the zero value with UnknownToken
	Action       Action
	Subject      string // "": everything
	UnknownToken bool
}

// Unauthenticated reports whether another token or a certificate may help: the caller has
// shown none, or one that is not known.
func (e *DeniedError) Unauthenticated() bool { return e.UnknownToken || e.Caller.By == "" }

// Error says which scope is missing, and to whom. It never has the token.
func (e *DeniedError) Error() string {
	scope := fmt.Sprintf("%.120q", Scope{e.Action, e.Subject})
	switch {
	case e.UnknownToken:
		return "the token is not known to this agent; this needs one with scope " + scope + " (http.tokens)"
	case e.Caller.By == "":
		return "this needs a token with scope " + scope + " (http.tokens of the agent), or a client certificate; send it as 'Authorization: Bearer TOKEN', or give disc --token-file"
	case e.Caller.Entry == "":
		return fmt.Sprintf("certificate %.120q is not in http.clients of the agent; this needs scope %s", e.Caller.Name, scope)
	}
	return fmt.Sprintf("%s %.120q lacks scope %s; give it that, or use another", e.Caller.By, e.Caller.Name, scope)
}

// Is makes a denial an [discovery.ErrForbidden].
func (*DeniedError) Is(target error) bool { return target == discovery.ErrForbidden }
