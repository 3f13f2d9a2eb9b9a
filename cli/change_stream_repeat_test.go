package cli

import (
	"bytes"
	"strings"
	"testing"

	"disc/discovery"
)

// TestOutageOfAStream expects that an agent which stays away is said again less and less often, with
// how often it has failed.
func TestOutageOfAStream(t *testing.T) {
	var out bytes.Buffer
	var got []int
	passOn(&app{io: &IO{Err: &out}}, func(yield func(int, error) bool) {
		for range 100 {
			yield(0, discovery.Errorf(discovery.ErrUnavailable, "the agent is away"))
		}
		yield(7, nil)
	}, func(value int, err error) bool {
		got = append(got, value)
		return err == nil
	})
	if n := strings.Count(out.String(), "the agent is away; trying again"); n != 7 || !strings.Contains(out.String(), "(failure 64)") {
		t.Errorf("it is said %d times:\n%s", n, out.String())
	}
	if len(got) != 1 || got[0] != 7 {
		t.Errorf("got %v, want the one value", got)
	}
}
