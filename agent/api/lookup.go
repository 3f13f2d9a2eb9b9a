package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"disc/discovery"
	"disc/discovery/lookup"
)

// Freshness is what the headers of an answer say of the agent's view.
type Freshness struct {
	Revision int64         // etcd's, up to which the view is complete; of the write, for a write
	Index    int64         // to be handed back in Wait
	Age      time.Duration // since etcd last confirmed the view
	Stale    bool          // Age is above the agent's threshold
	ETag     string        // of the content
}

func freshnessOf(h http.Header) Freshness {
	v := Freshness{Stale: h.Get(HeaderStale) == "true", ETag: h.Get("ETag")}
	v.Revision, _ = strconv.ParseInt(h.Get(HeaderRevision), 10, 64)
	v.Index, _ = strconv.ParseInt(h.Get(HeaderIndex), 10, 64)
	if seconds, err := strconv.ParseFloat(h.Get(HeaderAge), 64); err == nil {
		v.Age = time.Duration(seconds * float64(time.Second))
	}
	return v
}

// Wait makes a query block until the index of what it asks for is another than
// Index, at most For. The zero value does not block.
type Wait struct {
	Index int64         // of the answer that is known; 0: none, wait until there is one
	For   time.Duration // up to MaxWait
}

func (w Wait) set(q url.Values) {
	if w.For > 0 {
		q.Set("index", strconv.FormatInt(w.Index, 10))
		q.Set("wait", w.For.String())
	}
}

// Select narrows a lookup or a list; see [discovery.Selector].
type Select struct {
	Tags   []string
	Zone   string
	Node   string
	Meta   map[string]string
	Port   string
	Filter string // an expression; see [discovery.Filter]
}

func (s Select) set(q url.Values) {
	for _, tag := range s.Tags {
		q.Add("tag", tag)
	}
	for key, value := range s.Meta {
		q.Set("meta."+key, value)
	}
	setUnlessEmpty(q, "zone", s.Zone)
	setUnlessEmpty(q, "node", s.Node)
	setUnlessEmpty(q, "port", s.Port)
	setUnlessEmpty(q, "filter", s.Filter)
}

func setUnlessEmpty(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// LookupOptions are the options of a lookup; the zero value asks for nothing special.
type LookupOptions struct {
	Select
	Status     discovery.StatusFilter
	PreferZone bool     // the agent's own zone first
	Pick       int      // this many by weighted choice; 0: all
	Panic      *float64 // nil: the agent's setting
	Explain    bool
	Wait       Wait
}

func (o LookupOptions) query() url.Values {
	q := url.Values{}
	o.Select.set(q)
	o.Wait.set(q)
	setUnlessEmpty(q, "status", string(o.Status))
	if o.PreferZone {
		q.Set("prefer", "zone")
	}
	if o.Pick != 0 {
		q.Set("pick", strconv.Itoa(o.Pick))
	}
	if o.Panic != nil {
		q.Set("panic", strconv.FormatFloat(*o.Panic, 'g', -1, 64))
	}
	if o.Explain {
		q.Set("explain", "")
	}
	return q
}

// Lookup asks for the endpoints of a name. ErrNotFound: nothing is known under it;
// ErrUnavailable: the agent has no view yet.
func (c *Client) Lookup(ctx context.Context, name string, o LookupOptions) (lookup.Answer, Freshness, error) {
	var answer lookup.Answer
	resp, err := c.call(ctx, request{method: "GET", path: "/v1/lookup/" + url.PathEscape(name), query: o.query()}, &answer)
	if err != nil {
		return lookup.Answer{}, Freshness{}, err
	}
	return answer, freshnessOf(resp.Header), nil
}

// LookupText is Lookup as lines of "host:port", IPv6 addresses in brackets; an
// endpoint without a port is a bare address. Explain adds nothing to it.
func (c *Client) LookupText(ctx context.Context, name string, o LookupOptions) (string, Freshness, error) {
	resp, err := c.send(ctx, request{
		method: "GET", path: "/v1/lookup/" + url.PathEscape(name), query: o.query(), accept: "text/plain",
	})
	if err != nil {
		return "", Freshness{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", Freshness{}, c.unreachable(ctx, err)
	}
	return string(b), freshnessOf(resp.Header), nil
}
