package httpapi

import (
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"disc/agent/access"
	"disc/agent/api"
)

// maxMessage is the greatest length of a DNS message, in bytes (RFC 8484, section 6).
const maxMessage = 65535

// jsonParams are the query parameters of the JSON form. The last four are accepted, as
// public resolvers do, and ignored: the agent asks no other server and signs nothing.
var jsonParams = []string{"name", "type", "cd", "do", "ct", "edns_client_subnet", "random_padding"}

func (a *API) dohRoutes() []route {
	return []route{
		{method: "GET", path: "/dns-query", params: append([]string{"dns"}, jsonParams...), scope: access.Read, handle: a.dnsGet},
		{method: "POST", path: "/dns-query", scope: access.Read, body: maxMessage, handle: a.dnsPost},
		{method: "GET", path: "/resolve", params: jsonParams, scope: access.Read, handle: a.resolve},
	}
}

// dnsGet answers the query in ?dns= (RFC 8484, section 4.1), or with ?name= as JSON.
func (a *API) dnsGet(w http.ResponseWriter, r request) error {
	if r.query.Has("name") && !r.query.Has("dns") {
		return a.resolve(w, r)
	}
	packet, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.query.Get("dns"), "="))
	if err != nil || len(packet) == 0 {
		return invalid("?dns= is not a DNS query in base64url; for the JSON form use ?name=web.disc&type=A")
	}
	return a.exchange(w, packet)
}

// dnsPost answers the query in the body.
func (a *API) dnsPost(w http.ResponseWriter, r request) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != api.TypeDNS {
		return api.NewProblem(http.StatusUnsupportedMediaType, fmt.Sprintf(
			"a DNS query cannot be sent as %q; send it as %s", r.Header.Get("Content-Type"), api.TypeDNS))
	}
	packet, err := readBody(w, r)
	if err != nil {
		return err
	}
	return a.exchange(w, packet)
}

func (a *API) exchange(w http.ResponseWriter, packet []byte) error {
	answer, ttl, err := a.backends.DNS.Exchange(packet, maxMessage)
	if err != nil {
		return err
	}
	return writeDNS(w, api.TypeDNS, answer, ttl)
}

// resolve answers a question in the JSON form.
func (a *API) resolve(w http.ResponseWriter, r request) error {
	checkingDisabled, err := r.query.flag("cd")
	if err != nil {
		return err
	}
	answer, ttl, err := a.backends.DNS.JSON(r.query.Get("name"), r.query.Get("type"), checkingDisabled)
	if err != nil {
		return err
	}
	body, err := encode(answer)
	if err != nil {
		return err
	}
	return writeDNS(w, api.TypeDNSJSON, body, ttl)
}

// writeDNS writes an answer that may be cached for ttl (RFC 8484, section 5.1).
func writeDNS(w http.ResponseWriter, mediaType string, body []byte, ttl time.Duration) error {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", fmt.Sprintf("max-age=%d", int(ttl.Seconds())))
	_, err := w.Write(body)
	return err
}
