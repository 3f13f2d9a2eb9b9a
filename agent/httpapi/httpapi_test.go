package httpapi

import (
	"reflect"
	"strings"
	"testing"
)

func TestBackendsAreRequired(t *testing.T) {
	all := reflect.TypeFor[Backends]()
	for n := range all.NumField() {
		name := all.Field(n).Name
		t.Run(name, func(t *testing.T) {
			b := newFleet().backends()
			reflect.ValueOf(&b).Elem().Field(n).SetZero()
			if _, err := New(b, Options{}); err == nil || !strings.Contains(err.Error(), "backend "+name+" is missing") {
				t.Errorf("%v", err)
			}
		})
	}
}
