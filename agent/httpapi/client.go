package httpapi

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"disc/agent/api"
)

// What is answered without net/http is small: its buffers are kept with the connection.
const (
	mostRequest = 4 << 10  // bytes of a request
	mostAnswer  = 32 << 10 // bytes of a body
)

// client is who asks for lookups and values on one connection. It keeps what seldom changes
// from one request to the next, so that the answer to a lookup allocates nothing.
type client struct {
	api   *API
	local net.Addr // where it asks

	host   string // the last that was allowed
	path   string // the last that was asked for
	out    []byte
	date   []byte // of second, as the header has it
	second int64
}

// plain is an answer that needs no net/http.
type plain struct {
	age             time.Duration
	revision, index int64
	stale           bool
	etag            string
	vary            bool // with Accept
	unchanged       bool // the caller has it (304): there is no content
	contentType     string
	body            []byte
	counts          *plainCounters
}

// answer returns the answer to the request at the front of what was read, and the
// request's length in bytes; 0 where it has none. The answer is good until the next call.
func (c *client) answer(read []byte, now time.Time) (out []byte, length int) {
	r, length := recognize(read)
	if length == 0 || !c.allows(r.host) {
		return nil, 0
	}
	p, ok := c.find(r)
	if !ok || len(p.body) > mostAnswer {
		return nil, 0
	}
	p.counts.count(p.unchanged)
	c.write(p, now)
	return c.out, length
}

func (c *client) allows(host []byte) bool {
	if string(host) == c.host {
		return true
	}
	if h := string(host); httpguts.ValidHostHeader(h) && c.api.hostAllowed(h, c.local) {
		c.host = h
		return true
	}
	return false
}

// find answers a request from memory, or reports that it cannot.
func (c *client) find(r plainRequest) (plain, bool) {
	if string(r.path) != c.path {
		c.path = string(r.path)
	}
	var known []string
	if r.ifNoneMatch != nil {
		known = []string{string(r.ifNoneMatch)}
	}
	if name, ok := strings.CutPrefix(c.path, lookupPath); ok {
		return c.lookup(name, r.wantsText(), known)
	}
	if key, ok := strings.CutPrefix(c.path, kvPath); ok && c.api.options.KV != nil {
		return c.value(key, known)
	}
	return plain{}, false
}

func (c *client) lookup(name string, text bool, known []string) (plain, bool) {
	view, err := c.api.catalog.View()
	if err != nil {
		return plain{}, false
	}
	a, ok := c.api.plainAnswer(view, name, text, known)
	if !ok {
		return plain{}, false
	}
	p := plain{
		age: view.Age, revision: view.Snapshot.Revision(), index: a.service.Index(), stale: view.Stale,
		etag: a.etag[0], vary: true, unchanged: a.body == nil, counts: &c.api.metrics.lookups,
	}
	if a.body != nil {
		p.contentType, p.body = a.form.contentType[0], a.body.bytes
	}
	return p, true
}

func (c *client) value(key string, known []string) (plain, bool) {
	item, view, ok := c.api.options.KV.GetCached(key)
	if !ok {
		return plain{}, false
	}
	p := plain{
		age: view.Age, revision: view.Revision, index: view.Index, stale: view.Stale,
		etag: api.KVTag(item.Revision), counts: &c.api.metrics.values,
	}
	if p.unchanged = matches(known, p.etag); !p.unchanged {
		p.contentType, p.body = typeValue, item.Value
	}
	return p, true
}

// write makes the answer that net/http would make of the same headers, in its order.
func (c *client) write(p plain, now time.Time) {
	if second := now.Unix(); second != c.second {
		c.second, c.date = second, now.UTC().AppendFormat(c.date[:0], http.TimeFormat)
	}
	b := c.out[:0]
	if p.unchanged {
		b = append(b, "HTTP/1.1 304 Not Modified\r\n"...)
	} else {
		b = strconv.AppendInt(append(b, "HTTP/1.1 200 OK\r\nContent-Length: "...), int64(len(p.body)), 10)
		b = append(append(b, "\r\nContent-Type: "...), p.contentType...)
		b = append(b, "\r\n"...)
	}
	b = strconv.AppendFloat(append(b, api.HeaderAge+": "...), p.age.Seconds(), 'f', 3, 64)
	b = strconv.AppendInt(append(b, "\r\n"+api.HeaderIndex+": "...), p.index, 10)
	b = strconv.AppendInt(append(b, "\r\n"+api.HeaderRevision+": "...), p.revision, 10)
	if p.stale {
		b = append(append(b, "\r\n"+api.HeaderStale+": "...), staleValue[0]...)
	}
	b = append(append(b, "\r\nEtag: "...), p.etag...)
	if p.vary {
		b = append(append(b, "\r\nVary: "...), varyAccept[0]...)
	}
	b = append(append(b, "\r\nDate: "...), c.date...)
	b = append(b, "\r\n\r\n"...)
	c.out = append(b, p.body...)
}
