package render

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"text/template"
	"unicode/utf8"

	"disc/discovery"
	"disc/discovery/view"
)

// functions returns the functions for templates. The order of arguments is that of
// consul-template: the piped value comes last.
func functions(ctx context.Context, s Source) template.FuncMap {
	return template.FuncMap{
		"service": func(name string) ([]discovery.Endpoint, error) {
			if strings.Trim(name, ".") == "" {
				return nil, discovery.Errorf(discovery.ErrInvalid, "the name is empty; write service \"web\"")
			}
			return s.Service(ctx, name)
		},
		"instances": func(service string) ([]view.Entry, error) {
			if err := discovery.ValidateService(service); err != nil {
				return nil, err
			}
			return s.Instances(ctx, service)
		},
		"services":   func() ([]Service, error) { return s.Services(ctx) },
		"nodes":      func() ([]discovery.Node, error) { return s.Nodes(ctx) },
		"env":        os.Getenv,
		"join":       func(separator string, list []string) string { return strings.Join(list, separator) },
		"split":      func(separator, text string) []string { return strings.Split(text, separator) },
		"toLower":    strings.ToLower,
		"toUpper":    strings.ToUpper,
		"replaceAll": func(from, to, text string) string { return strings.ReplaceAll(text, from, to) },
		"contains":   func(item, in any) (bool, error) { return contains(in, item) },
		"in":         contains,
		"hostport":   hostport,
		"isIP":       isIP,
		"toJSON":     toJSON,
		"toYAML":     toYAML,

		"shellQuote":   shellQuote,
		"nginxQuote":   nginxQuote,
		"haproxyQuote": haproxyQuote,
	}
}

// contains reports whether a text has a substring, a list an item, or a map a key.
func contains(in, item any) (bool, error) {
	list := reflect.ValueOf(in)
	switch list.Kind() {
	case reflect.String:
		return strings.Contains(list.String(), fmt.Sprint(item)), nil
	case reflect.Slice, reflect.Array:
		for _, one := range list.Seq2() {
			if fmt.Sprint(one) == fmt.Sprint(item) {
				return true, nil
			}
		}
		return false, nil
	case reflect.Map:
		for key := range list.Seq() {
			if fmt.Sprint(key) == fmt.Sprint(item) {
				return true, nil
			}
		}
		return false, nil
	}
	return false, discovery.Errorf(discovery.ErrInvalid, "%T is not a text, list or map", in)
}

// hostport joins an address and a port, with brackets around an IPv6 address. It returns
// only the address if the port is 0.
func hostport(address string, port int) string {
	if port == 0 {
		return address
	}
	return net.JoinHostPort(address, strconv.Itoa(port))
}

// isIP reports whether an address is an IP address, and not a host name.
func isIP(address string) bool {
	_, err := netip.ParseAddr(address)
	return err == nil
}

// toJSON returns a value in JSON, on one line. Text that is not UTF-8 is an error: JSON has
// no way to express it.
func toJSON(v any) (string, error) {
	if err := wantUTF8(reflect.ValueOf(v), 0); err != nil {
		return "", err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the output is a file, not an HTML page
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// maxDepth bounds the depth of values in toJSON: no value of a template is as deep.
const maxDepth = 32

// wantUTF8 returns an error if a text in a value is not UTF-8. It names the field.
func wantUTF8(v reflect.Value, depth int) error {
	if depth > maxDepth {
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return discovery.Errorf(discovery.ErrInvalid, "the text is not UTF-8, which JSON and YAML cannot express")
		}
	case reflect.Pointer, reflect.Interface:
		return wantUTF8(v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		for n := range v.Len() {
			if err := wantUTF8(v.Index(n), depth+1); err != nil {
				return fmt.Errorf("[%d]: %w", n, err)
			}
		}
	case reflect.Map:
		for key, value := range v.Seq2() {
			if err := cmp.Or(wantUTF8(key, depth+1), wantUTF8(value, depth+1)); err != nil {
				return fmt.Errorf("[%q]: %w", fmt.Sprint(key), err)
			}
		}
	case reflect.Struct:
		for n := range v.NumField() {
			if err := wantUTF8(v.Field(n), depth+1); err != nil {
				return fmt.Errorf(".%s: %w", v.Type().Field(n).Name, err)
			}
		}
	}
	return nil
}
