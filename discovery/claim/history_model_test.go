package claim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// verb is an operation on a resource that one client may hold at a time.
type verb int

const (
	takes  verb = iota
	renews      // the grant is renewed
	ends        // the grant is released, or lost
)

// step is an operation on a lock or a slot.
type step struct {
	verb
	fence    int64
	resource string // the name of the lock, or the slot
}

// exclusion is the model: a client takes a resource only when it is free, and with a higher
// fence than all before; only its holder can renew or end the grant.
var exclusion = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, o := range all {
			parts[o.Input.(step).resource] = append(parts[o.Input.(step).resource], o)
		}
		var out [][]porcupine.Operation
		for _, part := range parts {
			out = append(out, part)
		}
		return out
	},
	Init: func() any { return [2]int64{} }, // the holder's fence, and the highest fence
	Step: func(state, input, _ any) (bool, any) {
		held, highest := state.([2]int64)[0], state.([2]int64)[1]
		switch s := input.(step); s.verb {
		case takes:
			return held == 0 && s.fence > highest, [2]int64{s.fence, s.fence}
		case renews:
			return held == s.fence, state
		default:
			return held == s.fence, [2]int64{0, highest}
		}
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}

// tenure is the time for which a client had a resource.
type tenure struct {
	take, end porcupine.Operation
	fence     int64
}

// tenures returns those of each resource, in the order in which they began.
func tenures(all []porcupine.Operation) map[string][]*tenure {
	type holder struct {
		client   int
		resource string
	}
	byResource, current := map[string][]*tenure{}, map[holder]*tenure{}
	for _, o := range slices.SortedFunc(slices.Values(all), func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) }) {
		s := o.Input.(step)
		switch by := (holder{o.ClientId, s.resource}); s.verb {
		case takes:
			current[by] = &tenure{take: o, fence: s.fence}
			byResource[s.resource] = append(byResource[s.resource], current[by])
		case ends:
			current[by].end = o
		}
	}
	return byResource
}

// violations describes the grants that were taken while an earlier holder still had the resource,
// or with a fence that is not higher.
func violations(all []porcupine.Operation) string {
	var found []string
	for resource, in := range tenures(all) {
		for n, now := range in[min(1, len(in)):] {
			before := in[n]
			took := fmt.Sprintf("client %d took it between %v and %v, with fence %d", now.take.ClientId, time.Duration(now.take.Call), time.Duration(now.take.Return), now.fence)
			had := fmt.Sprintf("client %d had it from %v to %v, with fence %d", before.take.ClientId, time.Duration(before.take.Return), time.Duration(before.end.Call), before.fence)
			switch {
			case before.end.Call > now.take.Return:
				found = append(found, fmt.Sprintf("%s: two had it: %s, and %s", resource, had, took))
			case before.fence >= now.fence:
				found = append(found, fmt.Sprintf("%s: the fence fell: %s, and then %s", resource, had, took))
			}
		}
	}
	return strings.Join(found, "\n")
}
