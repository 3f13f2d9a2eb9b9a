package retry

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestPlainText(t *testing.T) {
	for want, err := range map[string]error{
		"interrupted":                         context.Canceled,
		"read it: interrupted":                fmt.Errorf("read it: %w", context.Canceled),
		"read it: no answer in time":          fmt.Errorf("read it: %w", context.DeadlineExceeded),
		"no answer in time\nask: refused":     errors.Join(context.DeadlineExceeded, errors.New("ask: refused")),
		`key "context canceled": interrupted`: fmt.Errorf(`key "context canceled": %w`, context.Canceled),
		`no key "a: context canceled"`:        errors.New(`no key "a: context canceled"`),
		"backup: context canceled":            errors.New("backup: context canceled"),
		"a command said context canceled":     fmt.Errorf("a command said %w", context.Canceled),
	} {
		t.Run(want, func(t *testing.T) {
			if got := PlainText(err); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
