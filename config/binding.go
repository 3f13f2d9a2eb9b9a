package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	kind kind
	// set parses the texts of a value into the field: exactly one, unless the kind is a
	// list. On error the field is unchanged.
	set  func(c *Config, texts []string) error
	show func(c *Config) string // without secrets
}

// scalar binds a field that is written as one text.
func scalar[T any](field func(*Config) *T, parse func(string) (T, error)) binding {
	return binding{
		kind: kindText,
		set: func(c *Config, texts []string) error {
			v, err := parse(texts[0])
			if err == nil {
				*field(c) = v
			}
			return err
		},
		show: func(c *Config) string { return fmt.Sprint(*field(c)) },
	}
}

// boolean binds a field that is true or false.
func boolean(field func(*Config) *bool) binding {
	b := scalar(field, func(text string) (bool, error) {
		v, err := strconv.ParseBool(text)
		if err != nil {
			return false, invalid("%q is neither true nor false", text)
		}
		return v, nil
	})
	b.kind = kindBool
	return b
}

// list binds a list. Each element is trimmed and parsed.
func list(field func(*Config) *[]string, parse func(string) (string, error)) binding {
	return binding{
		kind: kindList,
		set: func(c *Config, texts []string) error {
			elements, err := parseAll(texts, parse)
			if err == nil {
				*field(c) = elements
			}
			return err
		},
		show: func(c *Config) string { return strings.Join(*field(c), ",") },
	}
}

// parseAll parses the elements of a list and joins the errors of all.
func parseAll(texts []string, parse func(string) (string, error)) ([]string, error) {
	var list []string
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

// shown returns a binding whose shown value is passed through change.
func (b binding) shown(change func(string) string) binding {
	show := b.show
	b.show = func(c *Config) string { return change(show(c)) }
	return b
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

func invalid(format string, args ...any) error {
	return discovery.Errorf(discovery.ErrInvalid, format, args...)
}
