package reflector

import (
	"fmt"
	"testing"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// However many watches are started at once, the responses to the first do not block the
// last.
func TestManyWatchesAtOnce(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	whole := Prefix("/s/")
	m := newRecordingStore()
	r := run(t, client.Endpoints()[0], m, Options{Ranges: []Range{whole}})
	parts := make([]Range, 30_000)
	for n := range parts {
		parts[n] = Prefix(fmt.Sprintf("/s/%d/", n))
	}
	if err := r.Narrow(t.Context(), whole, func() []Range { return parts }); err != nil {
		t.Fatal(err)
	}
	last := fmt.Sprintf("/s/%d/a", len(parts)-1)
	put(t, client, last, "1")
	retrytest.Eventually(t, "the last watch's event", func() bool { return m.holds()[last] == "1" })
}
