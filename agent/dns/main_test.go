package dns

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"disc/discovery"
	"disc/discovery/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCatalog is a catalog that shows one view.
type fakeCatalog struct {
	lock sync.Mutex
	view view.View
	err  error
}

// Has reports that everything is in the view; so do the other methods.
func (f *fakeCatalog) Has(...discovery.Scope) bool { return true }

func (f *fakeCatalog) Ensure(context.Context, ...discovery.Scope) error { return nil }

func (f *fakeCatalog) ServiceNames(context.Context) ([]string, error) { return nil, nil }

func (f *fakeCatalog) View() (view.View, error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.view, f.err
}

// apply replaces the view with one that has more changes.
func (f *fakeCatalog) apply(t testing.TB, revision int64, changes ...view.Change) {
	t.Helper()
	next, _, broken := f.view.Snapshot.Apply(revision, changes)
	if broken != nil {
		t.Fatal(broken)
	}
	f.lock.Lock()
	defer f.lock.Unlock()
	f.view.Snapshot = next
}

// put returns the change that writes a record under a key such as "web/instances/web-1".
// The fields, in JSON, come after the address 10.0.0.5.
func put(key, fields string) view.Change {
	k := discovery.NewKeys("default")
	prefix := k.Services()
	if strings.HasPrefix(key, "nodes/") {
		prefix = k.Prefix()
	}
	c := view.Change{Key: k.Parse(prefix + key), Created: 1, Modified: 1}
	var base string
	switch c.Key.Kind {
	case discovery.KeyNode:
		base = fmt.Sprintf(`"node":%q`, c.Key.Node)
	case discovery.KeyInstance, discovery.KeyStatic:
		base = fmt.Sprintf(`"service":%q,"id":%q,"address":"10.0.0.5"`, c.Key.Service, c.Key.ID)
	}
	c.Value = []byte("{" + strings.Trim(base+","+fields, ",") + "}")
	return c
}

func gone(key string) view.Change {
	c := put(key, "")
	c.Value = nil
	return c
}

// testCatalog returns a catalog with one of everything that answers distinguish.
func testCatalog(t testing.TB) *fakeCatalog {
	f := &fakeCatalog{view: view.View{Snapshot: view.EmptySnapshot()}}
	f.apply(t, 9, put("gone/instances/g1", ``))
	f.apply(t, 50,
		put("web/instances/web-1", `"port":80,"ports":{"grpc":90},"zone":"a","tags":["v1"],"meta":{"b":"2","a":"1"},"weight":7`),
		put("web/instances/web-2", `"address":"10.0.0.6","port":81,"zone":"b","tags":["v2"]`),
		put("web/instances/web-3", `"address":"2001:db8::7","port":82,"zone":"a","tags":["v2"]`),
		put("web/instances/sick", `"address":"10.0.0.8","port":83,"tags":["v3"],"status":"critical"`),
		put("web/static/down", `"address":"10.0.0.9"`), put("web/overrides/down", `"state":"down"`),
		put("db/static/main", `"address":"db.example.com","port":5432`),
		put("mixed/static/host", `"address":"h.example.com","port":1`), put("mixed/static/ip", `"port":2`),
		put("odd/instances/a.b", `"port":1`), put("odd/instances/c:d", `"address":"10.0.1.2","port":2`),
		put("odd/instances/One", `"address":"10.0.1.3","port":3`), put("odd/instances/TWO", `"address":"10.0.1.4","port":4`),
		put("odd/instances/two", `"address":"10.0.1.5","port":5`), put("odd/instances/noport", `"address":"10.0.1.6"`),
		put("odd/instances/"+strings.Repeat("x", 64), `"address":"::ffff:10.0.1.7","port":7`),
		put("ill/instances/i1", `"port":1,"status":"critical"`),
		put("spare/instances/s1", `"port":1,"weight":0`),
		put("un_der/instances/u1", `"port":1`),
		put("my.app/instances/dotted", `"port":1`), put("v2.web/instances/exact", `"address":"10.9.9.9"`),
		put("addr/instances/x", `"tags":["t"]`),
		put("txt/instances/t1", `"meta":{"k=y":"a\\b=c"," s ":"`+"\u00e9"+`","a`+"`"+`c":"","long":"`+strings.Repeat("x", 251)+`"}`),
		gone("gone/instances/g1"),
		put("nodes/host-1/a1", `"address":"10.0.0.1","zone":"a"`), put("nodes/host-1/a2", `"address":"2001:db8::1"`),
		put("nodes/Host-2.example.net/a3", `"address":"10.0.0.2"`),
		put("nodes/named/a4", `"address":"named.example.com"`),
	)
	return f
}

func responder(t testing.TB, c Catalog, o Options) *Responder {
	t.Helper()
	if o.TTL == 0 {
		o.TTL = time.Second
	}
	r, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// packet packs a message.
func packet(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newQuery(name string, qtype uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, qtype) }

// exchange answers a query in limit bytes (0: UDP) and unpacks the answer.
func exchange(t testing.TB, r *Responder, m *dns.Msg, limit int) *dns.Msg {
	t.Helper()
	return unpack(t, r, packet(t, m), limit)
}

func unpack(t testing.TB, r *Responder, query []byte, limit int) *dns.Msg {
	t.Helper()
	b, _, ok := r.respond(nil, nil, query, limit)
	if !ok {
		t.Fatalf("no answer to %x", query)
	}
	a := new(dns.Msg)
	if err := a.Unpack(b); err != nil {
		t.Fatalf("unpack: %v\n%x", err, b)
	}
	return a
}

// show returns an answer in short form: "NOERROR | answers | authorities | additional".
// Records are without their class and, where it is 1, their TTL.
func show(m *dns.Msg) string {
	code := rcodeName(m.Rcode)
	if m.Truncated {
		code += " tc"
	}
	if !m.Authoritative {
		code += " not-aa"
	}
	parts := []string{code}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		var lines []string
		for _, rr := range section {
			if rr.Header().Rrtype != dns.TypeOPT {
				lines = append(lines, strings.ReplaceAll(strings.Join(strings.Fields(rr.String()), " "), " 1 IN ", " "))
			}
		}
		slices.Sort(lines)
		parts = append(parts, strings.Join(lines, ", "))
	}
	return strings.TrimRight(strings.Join(parts, " | "), " |")
}
