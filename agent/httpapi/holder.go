package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"disc/agent/api"
)

// maxHolder is the most bytes of a holder's name.
const maxHolder = 128

// Holder is the caller of a request that registers or deregisters an instance.
type Holder struct {
	// ID proves that a later request is the holder's own, so it is shown to nobody; "": it gave none.
	ID   string
	From string // for people: its address, and what else is known of it; visible ASCII

	// Peer is what the requests of a caller that gives no id have in common with one another, and
	// perhaps with those of others; "": it gave one.
	Peer string

	// Unnamed means that the caller gave no id and may be a Go client of version 0.1.0, which
	// deregisters the instance that it holds without one.
	Unnamed bool
}

// String describes the holder without what proves that a request is its own.
func (h Holder) String() string { return strings.TrimPrefix(publicName(h.ID)+" at "+h.From, " at ") }

// publicName returns the program and process id of a name as the client of package api makes it,
// without the random end; "" of any other name.
func publicName(id string) string {
	name := id[:max(0, strings.LastIndexByte(id, ':'))]
	program, pid := name[:max(0, strings.LastIndexByte(name, ':'))], name[strings.LastIndexByte(name, ':')+1:]
	if _, err := strconv.ParseUint(pid, 10, 32); err != nil || program == "" {
		return ""
	}
	return name
}

// Owns reports whether a request of another counts as one of the holder itself.
func (h Holder) Owns(other Holder) bool {
	if h.ID != "" {
		return h.ID == other.ID
	}
	return h.Unnamed && other.Unnamed && h.Peer == other.Peer
}

// Resembles reports whether another may be the holder, which comes again. A holder that gives no
// name gets another one each time.
func (h Holder) Resembles(other Holder) bool {
	return h.Owns(other) || h.Peer != "" && h.Peer == other.Peer
}

// holderOf returns the caller of a request. ErrInvalid: it has a name that cannot be one.
func holderOf(r request) (Holder, error) {
	id := r.Header.Get(api.HeaderHolder)
	if len(id) > maxHolder || id != ascii(id) {
		return Holder{}, invalid("%s has more than %d characters, or others than visible ASCII; choose another name", api.HeaderHolder, maxHolder)
	}
	agent := ascii(r.UserAgent())
	host, from := addressOf(r.Request)
	if publicName(id) == "" && agent != "" {
		from += fmt.Sprintf(" (%.64s)", agent)
	}
	if r.caller.By != "" {
		from += fmt.Sprintf(", %s %s", r.caller.By, ascii(r.caller.Name))
	}
	h := Holder{ID: id, From: from, Unnamed: id == "" && strings.HasPrefix(agent, "Go-http-client/")}
	if id == "" {
		program, _, _ := strings.Cut(agent, "/")
		h.Peer = fmt.Sprintf("%q %q %q %q", host, program, r.caller.By, r.caller.Name)
	}
	return h, nil
}

// addressOf returns the host that a request comes from, and its address for people. The path of a
// Unix socket is what the caller has bound it to, if it has, and may look like any address.
func addressOf(r *http.Request) (host, from string) {
	if local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr); local != nil && local.Network() == "unix" {
		if path := ascii(strings.TrimPrefix(r.RemoteAddr, "@")); path != "" {
			return "unix", fmt.Sprintf("a Unix socket (%q)", path)
		}
		return "unix", "a Unix socket"
	}
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	switch {
	case err != nil:
		return r.RemoteAddr, ascii(r.RemoteAddr)
	case addr.Addr().Unmap().IsLoopback(): // a client may use several of them
		return "loopback", r.RemoteAddr
	}
	return addr.Addr().Unmap().String(), r.RemoteAddr
}
