package httpapi

import (
	"net"
	"strings"

	"disc/agent/access"
	"disc/agent/api"
	"disc/agent/httpapi/fastpath"
)

// plainAnswerer answers the plain lookup and the value of a key on the fast path.
type plainAnswerer struct{ *API }

// HostAllowed implements fastpath.Answerer.
func (p plainAnswerer) HostAllowed(host string, local net.Addr) bool {
	return p.hostAllowed(host, local)
}

// Answer implements fastpath.Answerer.
func (p plainAnswerer) Answer(r fastpath.Request, out *fastpath.Answer) bool {
	var known []string
	if r.IfNoneMatch != nil {
		known = []string{string(r.IfNoneMatch)}
	}
	if name, ok := strings.CutPrefix(r.Path, lookupPath); ok && p.open(access.Read, "") {
		return p.lookup(name, r.WantsText, known, out)
	}
	if key, ok := strings.CutPrefix(r.Path, kvPath); ok && p.open(access.KVRead, key) {
		return p.value(key, known, out)
	}
	return false
}

func (p plainAnswerer) lookup(name string, text bool, known []string, out *fastpath.Answer) bool {
	view, err := p.backends.Catalog.View()
	if err != nil {
		return false
	}
	var answer viewAnswer
	if !p.plainLookup(&answer, view, name, text, known) || !answer.fill(out) {
		return false
	}
	p.metrics.lookups.count(answer.notModified)
	return true
}

func (p plainAnswerer) value(key string, known []string, out *fastpath.Answer) bool {
	item, freshness, ok := p.backends.KV.GetCached(key)
	if !ok {
		return false
	}
	answer := viewAnswer{viewHeader: kvHeaderOf(freshness), content: content{body: item.Value, contentType: binaryType}}
	answer.etag.text = api.KVTag(item.Revision)
	answer.notModified = matches(known, answer.etag.text)
	if !answer.fill(out) {
		return false
	}
	p.metrics.values.count(answer.notModified)
	return true
}
