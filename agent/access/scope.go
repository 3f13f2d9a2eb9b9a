package access

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"disc/discovery"
)

// Action is what a request does. Its text is the word in a [Scope].
type Action uint8

// The actions.
const (
	Open     Action = iota + 1 // needs no scope: health, the description of the API
	Read                       // the catalog, in each protocol over HTTP; who holds locks and claims; limits; metrics
	Status                     // the agent's settings, and the outputs of its checks
	Register                   // instances of a service: register, deregister, report checks and load
	Operate                    // overrides, limits, breaking locks, quarantines, orders on suspects, profiles
	KVRead                     // keys and their values
	KV                         // keys and their values: write, and read
	Lock                       // locks: take, renew, release
	Claim                      // instances of a service: claim, renew, release
	Take                       // tokens of a limit

	actions = int(Take) + 1
)

var actionWords = [actions]string{
	Open: "open", Read: "read", Status: "status", Register: "register", Operate: "operate",
	KVRead: "kv-read", KV: "kv", Lock: "lock", Claim: "claim", Take: "take",
}

// all is the word of the scope that has every action.
const all = "all"

// String returns the word of an action.
func (a Action) String() string {
	if int(a) < actions && actionWords[a] != "" {
		return actionWords[a]
	}
	return fmt.Sprintf("action %d", uint8(a))
}

// HasSubject reports whether a scope of the action may be for one subject only: a service, a
// key, a lock or a limit.
func (a Action) HasSubject() bool {
	switch a {
	case Register, KVRead, KV, Lock, Claim, Take:
		return true
	}
	return false
}

// Scope is a right: an action, to all subjects or to some. Its text is the action's word, or
// the word and the subject after a colon: "register", "register:web", "kv:app/".
type Scope struct {
	Action  Action // 0: every action
	Subject string // "": all; see [ParseScope]
}

// ParseScope parses the text of a scope: "all", an action, or an action with a subject. The
// subject of kv and kv-read is a key, or a directory that ends in "/". That of register and
// claim is a service, of lock a lock, of take a limit; each may end in "*", which stands for
// any end. ErrInvalid: the text is none of these.
func ParseScope(text string) (Scope, error) {
	word, subject, found := strings.Cut(text, ":")
	if word == all && !found {
		return Scope{}, nil
	}
	for a := Read; int(a) < actions; a++ {
		if a.String() != word {
			continue
		}
		if !found {
			return Scope{Action: a}, nil
		}
		if err := a.validateSubject(subject); err != nil {
			return Scope{}, discovery.Errorf(discovery.ErrInvalid, "scope %.80q: %v", text, err)
		}
		return Scope{a, subject}, nil
	}
	return Scope{}, discovery.Errorf(discovery.ErrInvalid, "scope %.80q is unknown; use all, %s", text, strings.Join(Words(), ", "))
}

// Words returns the words of the scopes that are one action.
func Words() []string {
	var words []string
	for a := Read; int(a) < actions; a++ {
		words = append(words, a.String())
	}
	return words
}

// validateSubject returns an ErrInvalid unless a scope of the action may have the subject.
func (a Action) validateSubject(subject string) error {
	name := strings.TrimSuffix(subject, "*")
	switch {
	case !a.HasSubject():
		return discovery.Errorf(discovery.ErrInvalid, "%s is for everything; leave out what follows the colon", a)
	case name == "":
		return discovery.Errorf(discovery.ErrInvalid, "nothing follows the colon; write %s alone for everything", a)
	}
	switch a {
	case KV, KVRead:
		return validateKey(subject)
	case Lock:
		return discovery.ValidateLock(name)
	case Take:
		return discovery.ValidateLimit(name)
	}
	return discovery.ValidateService(name)
}

func validateKey(key string) error {
	switch {
	case strings.HasSuffix(key, "*"):
		return discovery.Errorf(discovery.ErrInvalid, "a directory of keys ends in \"/\"; write app/ for all keys below app")
	case strings.HasPrefix(key, "/") || strings.Contains(key, "//") || strings.ContainsFunc(key, unicode.IsControl):
		return discovery.Errorf(discovery.ErrInvalid, "%.60q is neither a key nor a directory; write app/greeting, or app/", key)
	}
	return nil
}

// String returns the text of a scope.
func (s Scope) String() string {
	switch {
	case s.Action == 0:
		return all
	case s.Subject == "":
		return s.Action.String()
	}
	return s.Action.String() + ":" + s.Subject
}

// UnmarshalText is [ParseScope].
func (s *Scope) UnmarshalText(text []byte) (err error) {
	*s, err = ParseScope(string(text))
	return err
}

// MarshalText returns the text of a scope.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// subjects are those for which an action is granted.
type subjects struct {
	all      bool
	some     bool // all, or at least one of the others
	names    []string
	prefixes []string
}

func (s *subjects) add(subject string) {
	s.some = true
	switch prefix, open := strings.CutSuffix(subject, "*"); {
	case subject == "":
		s.all = true
	case open:
		s.prefixes = append(s.prefixes, prefix)
	default:
		s.names = append(s.names, subject)
	}
}

// addKey is add for a key, or for the directory of keys that ends in "/".
func (s *subjects) addKey(key string) {
	if strings.HasSuffix(key, "/") {
		key += "*"
	}
	s.add(key)
}

// has reports whether a subject is among them. "" is everything.
func (s *subjects) has(subject string) bool {
	if s.all {
		return true
	}
	if subject == "" {
		return false
	}
	if slices.Contains(s.names, subject) {
		return true
	}
	for _, p := range s.prefixes {
		if strings.HasPrefix(subject, p) {
			return true
		}
	}
	return false
}

// scopes are the scopes of a caller, by action.
type scopes [actions]subjects

func newScopes(list []Scope) *scopes {
	s := new(scopes)
	s[Open].add("")
	for _, granted := range list {
		switch granted.Action {
		case 0:
			for a := range s {
				s[a].add("")
			}
		case KV:
			s[KV].addKey(granted.Subject)
			s[KVRead].addKey(granted.Subject)
		case KVRead:
			s[KVRead].addKey(granted.Subject)
		default:
			s[granted.Action].add(fold(granted.Action, granted.Subject))
		}
	}
	return s
}

// fold returns a subject as subjects are compared: names of services are not case-sensitive.
func fold(a Action, subject string) string {
	if a == Register || a == Claim {
		return discovery.FoldName(subject)
	}
	return subject
}

// allow reports whether the scopes allow an action on a subject; "" is everything.
func (s *scopes) allow(a Action, subject string) bool {
	return int(a) < actions && s[a].has(fold(a, subject))
}

// allowSome reports whether the scopes allow an action on one subject at least.
func (s *scopes) allowSome(a Action) bool { return int(a) < actions && s[a].some }
