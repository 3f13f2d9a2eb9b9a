package life

import "testing"

func TestStartedOver(t *testing.T) {
	before := Identity{Header{Cluster: 1, Term: 2, Revision: 30}, "e"}
	saved := Identity{Header{Revision: 30}, "e"}
	for name, test := range map[string]struct {
		before, now Identity
		want        string
	}{
		"the same":            {before, Identity{Header{1, 2, 30}, "e"}, ""},
		"later":               {before, Identity{Header{1, 3, 31}, "e"}, ""},
		"another epoch":       {before, Identity{Header{1, 2, 30}, "f"}, "the epoch has changed"},
		"no epoch":            {before, Identity{Header{1, 2, 30}, ""}, "the epoch has changed"},
		"another cluster":     {before, Identity{Header{9, 2, 30}, "e"}, "the cluster id has changed"},
		"an earlier revision": {before, Identity{Header{1, 2, 29}, "e"}, "the revision went back"},
		"an earlier term":     {before, Identity{Header{1, 1, 31}, "e"}, "the term went back"},
		"after a restart":     {saved, Identity{Header{1, 1, 31}, "e"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.now.StartedOver(test.before); got != test.want {
				t.Errorf("%+v: %q, want %q", test.now, got, test.want)
			}
		})
	}
}
