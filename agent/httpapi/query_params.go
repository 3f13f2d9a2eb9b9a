package httpapi

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lookup"
)

// params are the query parameters of a request. Its route accepts all of them. Each is
// given once, except tag, service and key.
type params struct{ url.Values }

// The parameters that many routes share.
var (
	waitParams   = []string{"index", "wait"}
	selectParams = []string{"tag", "zone", "node", "meta.*", "port", "filter", "status"}
)

func parseParams(raw string, known []string) (params, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return params{}, invalid("query %q cannot be read: %v", raw, err)
	}
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		meta := strings.HasPrefix(name, "meta.") && slices.Contains(known, "meta.*")
		if !meta && (!slices.Contains(known, name) || name == "meta.*") {
			unknown = append(unknown, name)
		} else if len(values[name]) > 1 && name != "tag" && name != "service" && name != "key" {
			return params{}, invalid("query parameter %q is given %d times; give it once", name, len(values[name]))
		}
	}
	switch {
	case len(unknown) > 0 && len(known) == 0:
		return params{}, invalid("unknown query parameter %s; this path has none", strings.Join(unknown, ", "))
	case len(unknown) > 0:
		return params{}, invalid("unknown query parameter %s; known are %s", strings.Join(unknown, ", "), strings.Join(known, ", "))
	}
	return params{values}, nil
}

func invalid(format string, args ...any) error {
	return discovery.Errorf(discovery.ErrInvalid, format, args...)
}

// flag reads a boolean parameter. Without a value it is true.
func (p params) flag(name string) (bool, error) {
	if !p.Has(name) || p.Get(name) == "" {
		return p.Has(name), nil
	}
	v, err := strconv.ParseBool(p.Get(name))
	if err != nil {
		return false, invalid("%s %q is neither true nor false", name, p.Get(name))
	}
	return v, nil
}

// wait reads ?index= and ?wait=.
func (p params) wait() (index int64, wait time.Duration, err error) {
	if !p.Has("index") {
		if p.Has("wait") {
			return 0, 0, invalid("wait needs index: the %s of the answer that you have", api.HeaderIndex)
		}
		return 0, 0, nil
	}
	index, err = strconv.ParseInt(p.Get("index"), 10, 64)
	if err != nil || index < 0 {
		return 0, 0, invalid("index %q is not a revision; give the %s of the answer that you have, or 0", p.Get("index"), api.HeaderIndex)
	}
	if !p.Has("wait") {
		return index, api.DefaultWait, nil
	}
	wait, err = time.ParseDuration(p.Get("wait"))
	if err != nil || wait <= 0 || wait > api.MaxWait {
		return 0, 0, invalid("wait %q is out of range; give a duration up to %v, such as 30s", p.Get("wait"), discovery.Duration(api.MaxWait))
	}
	return index, wait, nil
}

func (p params) selector() (lookup.Selector, error) {
	filter, err := lookup.ParseFilter(p.Get("filter"))
	if err != nil {
		return lookup.Selector{}, err
	}
	s := lookup.Selector{
		Tags: p.Values["tag"], Zone: p.Get("zone"), Node: p.Get("node"), Port: p.Get("port"), Filter: filter,
	}
	for name, values := range p.Values {
		if key, ok := strings.CutPrefix(name, "meta."); ok {
			if s.Meta == nil {
				s.Meta = map[string]string{}
			}
			s.Meta[key] = values[0]
		}
	}
	return s, nil
}

// number parses a numeric parameter; it returns absent where there is none.
func number[T any](p params, name string, parse func(string) (T, error), absent T) (T, error) {
	if !p.Has(name) {
		return absent, nil
	}
	v, err := parse(p.Get(name))
	if err != nil {
		return absent, invalid("%s %q is not a number in range; see /openapi.json", name, p.Get(name))
	}
	return v, nil
}
