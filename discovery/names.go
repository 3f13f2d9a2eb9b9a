package discovery

import (
	"fmt"
	"strings"
)

// Limits of names, in bytes.
const (
	MaxName = 63  // namespace, service, tag, port name
	MaxID   = 128 // instance id
	MaxNode = 253 // node name: a host name (RFC 1035)

	maxLookupName = 1024 // bytes: the longest id and service, with room for a domain
)

// ValidateNamespace returns an [ErrInvalid] unless s is 1 to 63 of letters,
// digits, '-', '_' and '.', and begins with a letter or digit.
func ValidateNamespace(s string) error { return validate("namespace", s, "-_.", MaxName) }

// ValidateService returns an [ErrInvalid] unless s may name a service, by the rule of
// [ValidateNamespace].
func ValidateService(s string) error { return validate("service name", s, "-_.", MaxName) }

// ValidateTag returns an [ErrInvalid] unless s may be a tag, by the rule of
// [ValidateNamespace].
func ValidateTag(s string) error { return validate("tag", s, "-_.", MaxName) }

// ValidateID returns an [ErrInvalid] unless s is 1 to 128 of letters, digits, '-',
// '_', '.' and ':', and begins with a letter or digit.
func ValidateID(s string) error { return validate("instance id", s, "-_.:", MaxID) }

// ValidateLock returns an [ErrInvalid] unless s may name a lock, by the rule of
// [ValidateID]. Names of locks are case-sensitive.
func ValidateLock(s string) error { return validate("lock name", s, "-_.:", MaxID) }

// ValidateNode returns an [ErrInvalid] unless s is 1 to 253 of the characters of an
// instance id.
func ValidateNode(s string) error { return validate("node name", s, "-_.:", MaxNode) }

func validatePortName(s string) error { return validate("port name", s, "-_", MaxName) }

func validate(what, s, punctuation string, limit int) error {
	if s == "" {
		return Errorf(ErrInvalid, "%s is empty; give 1 to %d letters, digits or %s", what, limit, spell(punctuation))
	}
	if len(s) > limit {
		return Errorf(ErrInvalid, "%s %.20q… has %d characters; at most %d are allowed", what, s, len(s), limit)
	}
	if !isAlphanumeric(s[0]) {
		return Errorf(ErrInvalid, "%s %q begins with %q; begin with a letter or digit", what, s, s[:1])
	}
	for _, r := range s {
		if r < 0x80 && (isAlphanumeric(byte(r)) || strings.ContainsRune(punctuation, r)) {
			continue
		}
		return Errorf(ErrInvalid, "%s %q has %q; use letters, digits and %s", what, s, r, spell(punctuation))
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// spell lists punctuation for a reader: "- _ .".
func spell(punctuation string) string {
	return strings.Join(strings.Split(punctuation, ""), " ")
}

// FoldName returns the form in which names of services and namespaces are stored and
// compared: lower case.
func FoldName(service string) string { return strings.ToLower(service) }

// NameKind is the kind of thing that a lookup name names.
type NameKind int

// The kinds of names; see [ParseName].
const (
	NameService  NameKind = iota // web, web.svc, v2.web, _web._tcp.svc, _grpc._tcp.web.svc
	NameInstance                 // <id>.web.inst
	NameNode                     // <node>.node
	NameBrowse                   // _services._dns-sd._udp.svc (RFC 6763, section 9)
)

// Name is a parsed lookup name.
type Name struct {
	Kind    NameKind
	Service string // NameService and NameInstance; as written
	Tag     string // NameService: only instances that have it; empty: all
	Port    string // NameService: the named port instead of the main one; empty: the main one
	ID      string // NameInstance
	Node    string // NameNode
}

// ParseName parses a lookup name by the grammar that HTTP and DNS share. The name may end
// in the domain, such as "disc.", and in a dot:
//
//	web  web.svc  v2.web  v2.web.svc      a service, of one tag
//	_web._tcp.svc  _grpc._tcp.web.svc     its main port, a named port (RFC 2782)
//	web-1.web.inst                        one instance
//	host-1.node                           a node
//	_services._dns-sd._udp.svc            all services
//
// It returns an [ErrInvalid] for anything else.
func ParseName(name, domain string) (Name, error) {
	if len(name) > maxLookupName {
		return Name{}, Errorf(ErrInvalid, "lookup name %.40q… has %d bytes; at most %d are allowed", name, len(name), maxLookupName)
	}
	n, ok := parseLabels(strings.Split(trimDomain(name, domain), "."))
	if !ok {
		return Name{}, Errorf(ErrInvalid, "lookup name %q is of no known form; ask for SERVICE, TAG.SERVICE, _PORT._tcp.SERVICE.svc, ID.SERVICE.inst or NODE.node", name)
	}
	if err := n.validate(); err != nil {
		return Name{}, fmt.Errorf("lookup name %q: %w", name, err)
	}
	return n, nil
}

// trimDomain removes the trailing dot and the domain from a name.
func trimDomain(name, domain string) string {
	name = strings.TrimSuffix(name, ".")
	domain = strings.Trim(domain, ".")
	cut := len(name) - len(domain) - 1
	if domain != "" && cut >= 0 && name[cut] == '.' && strings.EqualFold(name[cut+1:], domain) {
		return name[:cut]
	}
	return name
}

func parseLabels(labels []string) (Name, bool) {
	last := len(labels) - 1
	if last == 0 {
		return Name{Service: labels[0]}, true
	}
	switch strings.ToLower(labels[last]) {
	case "svc":
		return parseService(labels[:last])
	case "inst":
		if last < 2 {
			return Name{}, false
		}
		return Name{Kind: NameInstance, Service: labels[last-1], ID: strings.Join(labels[:last-1], ".")}, true
	case "node":
		return Name{Kind: NameNode, Node: strings.Join(labels[:last], ".")}, true
	}
	return parseService(labels)
}

func parseService(labels []string) (Name, bool) {
	if len(labels) > 1 && strings.HasPrefix(labels[0], "_") {
		return parseUnderscored(labels)
	}
	switch len(labels) {
	case 1:
		return Name{Service: labels[0]}, true
	case 2:
		return Name{Tag: labels[0], Service: labels[1]}, labels[0] != ""
	}
	return Name{}, false
}

// parseUnderscored parses the forms of RFC 2782 and RFC 6763, which begin with "_". No
// service, tag or id does.
func parseUnderscored(labels []string) (Name, bool) {
	first, proto := labels[0][1:], strings.ToLower(labels[1])
	transport := proto == "_tcp" || proto == "_udp"
	switch {
	case len(labels) == 2 && transport:
		return Name{Service: first}, true
	case len(labels) == 3 && strings.EqualFold(strings.Join(labels, "."), "_services._dns-sd._udp"):
		return Name{Kind: NameBrowse}, true
	case len(labels) == 3 && transport:
		return Name{Port: first, Service: labels[2]}, first != ""
	}
	return Name{}, false
}

func (n Name) validate() error {
	switch n.Kind {
	case NameBrowse:
		return nil
	case NameNode:
		return ValidateNode(n.Node)
	case NameInstance:
		if err := ValidateID(n.ID); err != nil {
			return err
		}
	case NameService:
		if n.Tag != "" {
			if err := ValidateTag(n.Tag); err != nil {
				return err
			}
		}
		if n.Port != "" {
			if err := validatePortName(n.Port); err != nil {
				return err
			}
		}
	}
	return ValidateService(n.Service)
}
