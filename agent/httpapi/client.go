package httpapi

import (
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http/httpguts"

	"disc/agent/api"
)

// What is answered without net/http is small: its buffers are kept with the connection.
const (
	mostRequest = 4 << 10  // bytes of a request
	mostAnswer  = 32 << 10 // bytes of a body
)

// client is who asks plain lookups on one connection. It keeps what seldom changes from one
// to the next, so that an answer allocates nothing.
type client struct {
	api   *API
	local net.Addr // where it asks

	host   string // the last that was allowed
	name   string // the last that was asked for
	out    []byte
	date   []byte // of second, as the header has it
	second int64
}

// answer returns the answer to the request at the front of what was read, and the
// request's length in bytes; 0 where it has none. The answer is good until the next call.
func (c *client) answer(read []byte, now time.Time) (out []byte, length int) {
	r, length := recognize(read)
	if length == 0 || !c.allows(r.host) {
		return nil, 0
	}
	if string(r.name) != c.name {
		c.name = string(r.name)
	}
	var known []string
	if r.ifNoneMatch != nil {
		known = []string{string(r.ifNoneMatch)}
	}
	view, err := c.api.catalog.View()
	if err != nil {
		return nil, 0
	}
	p, ok := c.api.plainAnswer(view, c.name, r.wantsText(), known)
	if !ok || p.body != nil && len(p.body.bytes) > mostAnswer {
		return nil, 0
	}
	c.api.metrics.countPlain(p)
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

// write makes the answer that net/http would make of the same headers, in its order.
func (c *client) write(p plainAnswer, now time.Time) {
	if second := now.Unix(); second != c.second {
		c.second, c.date = second, now.UTC().AppendFormat(c.date[:0], http.TimeFormat)
	}
	b := c.out[:0]
	if p.body == nil {
		b = append(b, "HTTP/1.1 304 Not Modified\r\n"...)
	} else {
		b = append(b, "HTTP/1.1 200 OK\r\nContent-Length: "...)
		b = append(b, p.body.length[0]...)
		b = append(append(b, "\r\nContent-Type: "...), p.form.contentType[0]...)
		b = append(b, "\r\n"...)
	}
	b = append(b, api.HeaderAge+": "...)
	b = strconv.AppendFloat(b, p.view.Age.Seconds(), 'f', 3, 64)
	b = append(append(b, "\r\n"+api.HeaderIndex+": "...), p.index[0]...)
	b = strconv.AppendInt(append(b, "\r\n"+api.HeaderRevision+": "...), p.view.Snapshot.Revision(), 10)
	if p.view.Stale {
		b = append(append(b, "\r\n"+api.HeaderStale+": "...), staleValue[0]...)
	}
	b = append(append(b, "\r\nEtag: "...), p.etag[0]...)
	b = append(append(b, "\r\nVary: "...), varyAccept[0]...)
	b = append(append(b, "\r\nDate: "...), c.date...)
	b = append(b, "\r\n\r\n"...)
	if p.body != nil {
		b = append(b, p.body.bytes...)
	}
	c.out = b
}
