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

// Freshness says how current an answer is. It comes in the headers of the response.
type Freshness struct {
	Revision int64         // etcd's, up to which the answer is complete; for a write, that of the write
	Index    int64         // for Wait: differs after each change of what was asked for
	Age      time.Duration // since etcd last confirmed the view
	Stale    bool          // Age is above the agent's threshold
	ETag     string        // of the content (RFC 9110)
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

// Wait makes a query block until the index of its answer differs from Index, but no longer than
// For. The zero value does not block.
type Wait struct {
	Index int64         // of the last answer; 0: none, wait until there is one
	For   time.Duration // up to MaxWait
}

func (w Wait) set(q url.Values) {
	if w.For > 0 {
		q.Set("index", strconv.FormatInt(w.Index, 10))
		q.Set("wait", w.For.String())
	}
}

// Select restricts a lookup or a list to instances that match every field; see
// [lookup.Selector].
type Select struct {
	Tags   []string
	Zone   string
	Node   string
	Meta   map[string]string
	Port   string
	Filter string // an expression; see [lookup.Filter]
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

// LookupOptions are the options of a lookup. The zero value is a plain lookup.
type LookupOptions struct {
	Select
	Status     discovery.StatusFilter
	PreferZone bool     // prefer the agent's own zone
	Pick       int      // return so many, by weighted choice; 0: all
	Panic      *float64 // panic threshold, 0 to 1; nil: the agent's setting
	Explain    bool     // add why each instance was chosen or not
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

// Lookup returns the endpoints of a name. ErrNotFound: the name is unknown; ErrUnavailable: the
// agent has no view yet.
func (c *Client) Lookup(ctx context.Context, name string, o LookupOptions) (lookup.Answer, Freshness, error) {
	var answer lookup.Answer
	resp, err := c.call(ctx, request{method: "GET", path: "/v1/lookup/" + url.PathEscape(name), query: o.query()}, &answer)
	if err != nil {
		return lookup.Answer{}, Freshness{}, err
	}
	return answer, freshnessOf(resp.Header), nil
}

// LookupText is [Client.Lookup] with the answer as lines of "host:port", IPv6 addresses in
// brackets. An endpoint without a port is a bare address. Explain has no effect.
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
