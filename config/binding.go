package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"disc/agent/access"
	"disc/discovery"
)

// kind is the YAML form that a setting's value has in the file.
type kind int

const (
	kindText       kind = iota // a scalar
	kindBool                   // true or false
	kindList                   // a list of scalars
	kindTextOrList             // either
)

// binding connects a setting with its field of [Config].
type binding struct {
	kind   kind
	isFile bool // the value is the path of a file that must exist, or ""
	// set parses the texts of a value into the field: exactly one, unless the kind is a
	// list. On error the field is unchanged.
	set  func(c *Config, texts []string) error
	show func(c *Config) string // without secrets
}

// bind connects a setting with a field, given how to parse and show it.
func bind[T any](k kind, field func(*Config) *T, parse func(texts []string) (T, error), show func(T) string) binding {
	return binding{
		kind: k,
		set: func(c *Config, texts []string) error {
			v, err := parse(texts)
			if err == nil {
				*field(c) = v
			}
			return err
		},
		show: func(c *Config) string { return show(*field(c)) },
	}
}

// scalar binds a field that is written as one text.
func scalar[T any](field func(*Config) *T, parse func(string) (T, error)) binding {
	return bind(kindText, field, func(texts []string) (T, error) { return parse(texts[0]) }, func(v T) string { return fmt.Sprint(v) })
}

// filePath binds the path of a file.
func filePath(field func(*Config) *string) binding {
	b := scalar(field, anyText)
	b.isFile = true
	return b
}

// level binds a log level, which is shown in lower case.
func level(field func(*Config) *slog.Level) binding {
	return bind(kindText, field, logLevel, func(l slog.Level) string { return strings.ToLower(l.String()) })
}

// boolean binds a field that is true or false.
func boolean(field func(*Config) *bool) binding {
	return bind(kindBool, field, func(texts []string) (bool, error) {
		v, err := strconv.ParseBool(texts[0])
		if err != nil {
			return false, invalid("%q is neither true nor false", texts[0])
		}
		return v, nil
	}, strconv.FormatBool)
}

// list binds a list. Each element is trimmed and parsed.
func list(field func(*Config) *[]string, parse func(string) (string, error)) binding {
	return bind(kindList, field, func(texts []string) ([]string, error) { return parseAll(texts, parse) },
		func(v []string) string { return strings.Join(v, ",") })
}

// networks binds a list of networks.
func networks(field func(*Config) *[]netip.Prefix, parse func(string) (netip.Prefix, error)) binding {
	return bind(kindList, field, func(texts []string) ([]netip.Prefix, error) { return parseAll(texts, parse) },
		func(v []netip.Prefix) string {
			texts := make([]string, len(v))
			for n, p := range v {
				texts[n] = p.String()
			}
			return strings.Join(texts, ",")
		})
}

// parseAll parses the elements of a list and joins the errors of all.
func parseAll[T any](texts []string, parse func(string) (T, error)) ([]T, error) {
	var list []T
	var errs []error
	for n, text := range texts {
		text = strings.TrimSpace(text)
		if text == "" {
			errs = append(errs, invalid("element %d of the list is empty", n+1))
			continue
		}
		v, err := parse(text)
		list, errs = append(list, v), append(errs, err)
	}
	return list, errors.Join(errs...)
}

// secret binds a secret, of which is shown only that it is set.
func secret(field func(*Config) *Secret) binding {
	return bind(kindText, field, func(texts []string) (Secret, error) { return Secret(texts[0]), visible(texts[0]) },
		func(s Secret) string {
			if s == "" {
				return ""
			}
			return s.String()
		})
}

// etcdUser binds the user and the password that may follow it; only the user is shown.
func etcdUser() binding {
	return binding{
		kind: kindText,
		set: func(c *Config, texts []string) error {
			user, password, found := strings.Cut(texts[0], ":")
			if user == "" && texts[0] != "" {
				return invalid("the user's name is missing before the colon; write name or name:password")
			}
			if found && password == "" {
				return invalid("the password is empty after %q; write name:password, or give only the name and a password file", user+":")
			}
			c.Etcd.User, c.Etcd.Password = user, Secret(password)
			return nil
		},
		show: func(c *Config) string { return c.Etcd.User },
	}
}

// rateLimit binds dns.rate_limit: auto or a number.
func rateLimit(field func(*Config) *int) binding {
	parse := func(texts []string) (int, error) {
		if texts[0] == "auto" {
			return AutoRateLimit, nil
		}
		n, err := count[int](100_000)(texts[0])
		if err != nil {
			return 0, fmt.Errorf("%w; or write auto", err)
		}
		return n, nil
	}
	return bind(kindText, field, parse, func(n int) string {
		if n == AutoRateLimit {
			return "auto"
		}
		return strconv.Itoa(n)
	})
}

// watch binds catalog.watch: a keyword or a list of services.
func watch() binding {
	return binding{
		kind: kindTextOrList,
		set: func(c *Config, texts []string) error {
			if len(texts) == 1 && slices.Contains([]string{WatchAuto, WatchAll, WatchLazy}, texts[0]) {
				c.Catalog.Watch, c.Catalog.Services = texts[0], nil
				return nil
			}
			services, err := parseAll(strings.Split(strings.Join(texts, ","), ","), func(name string) (string, error) { return name, discovery.ValidateService(name) })
			if err != nil {
				return fmt.Errorf("%w; write auto, all, lazy or a list of services", err)
			}
			c.Catalog.Watch, c.Catalog.Services = WatchListed, services
			return nil
		},
		show: func(c *Config) string {
			if c.Catalog.Watch == WatchListed {
				return strings.Join(c.Catalog.Services, ",")
			}
			return c.Catalog.Watch
		},
	}
}

// The values of http.anonymous besides lists of scopes.
const (
	anonymousAuto = "auto" // read where there are tokens or clients, otherwise no restriction
	anonymousNone = "none"
)

// anonymous binds http.anonymous: a keyword or a list of scopes.
func anonymous() binding {
	return binding{
		kind: kindTextOrList,
		set: func(c *Config, texts []string) error {
			switch {
			case len(texts) == 0 || len(texts) == 1 && texts[0] == anonymousNone:
				c.HTTP.Anonymous, c.HTTP.AnonymousSet = nil, true
				return nil
			case len(texts) == 1 && texts[0] == anonymousAuto:
				c.HTTP.Anonymous, c.HTTP.AnonymousSet = nil, false
				return nil
			}
			scopes, err := parseAll(strings.Split(strings.Join(texts, ","), ","), access.ParseScope)
			if err != nil {
				return fmt.Errorf("%w; write auto, none or a list of scopes", err)
			}
			c.HTTP.Anonymous, c.HTTP.AnonymousSet = scopes, true
			return nil
		},
		show: func(c *Config) string {
			switch {
			case !c.HTTP.AnonymousSet:
				return anonymousAuto
			case len(c.HTTP.Anonymous) == 0:
				return anonymousNone
			}
			return showScopes(c.HTTP.Anonymous)
		},
	}
}

func showScopes(scopes []access.Scope) string {
	var texts []string
	for _, s := range scopes {
		texts = append(texts, s.String())
	}
	return strings.Join(texts, ",")
}

func invalid(format string, args ...any) error {
	return discovery.Errorf(discovery.ErrInvalid, format, args...)
}
