package reflector

import (
	"errors"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"disc/discovery/devetcd/etcdtest"
)

// A list ends where its reader does not want the rest.
func TestListEndsEarly(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	fill(t, client, "/a/", 3*pageSize)
	enough := errors.New("enough")
	for name, list := range map[string]func(each func([]*mvccpb.KeyValue) error) error{
		"streamed": func(each func([]*mvccpb.KeyValue) error) error {
			_, err := List(t.Context(), client, Prefix("/a/"), each)
			return err
		},
		"paged": func(each func([]*mvccpb.KeyValue) error) error {
			_, err := listPaged(t.Context(), client, "/a/", each, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			pages := 0
			if err := list(func([]*mvccpb.KeyValue) error { pages++; return enough }); !errors.Is(err, enough) || pages != 1 {
				t.Errorf("%v after %d pages", err, pages)
			}
		})
	}
}

// Pages grow where the keys are small, up to pageSize.
func TestNextPage(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{10: pageSize, 10 << 10: 400, 512 << 10: firstPage} {
		page := slices.Repeat([]*mvccpb.KeyValue{{Value: make([]byte, size)}}, firstPage)
		if got := nextPage(page); got != want {
			t.Errorf("%d keys after those of %d bytes, want %d", got, size, want)
		}
	}
}
