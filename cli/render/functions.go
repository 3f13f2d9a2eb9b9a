package render

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"reflect"
	"strconv"
	"strings"
	"text/template"

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
		"toJSON":     toJSON,
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

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the output is a file, not an HTML page
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}
