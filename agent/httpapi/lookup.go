package httpapi

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"disc/agent/access"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// lookupRoute is the label of lookups in metrics, also of those that bypass the mux.
const lookupRoute = "GET " + lookupPath + "{name}"

const lookupPath = "/v1/lookup/"

func (a *API) lookupRoutes() []route {
	params := slices.Concat(selectParams, []string{"prefer", "pick", "panic", "explain", "format"}, waitParams)
	return []route{{method: "GET", path: lookupPath + "{name}", params: params, scope: access.Read, handle: a.lookup}}
}

func (a *API) lookup(w http.ResponseWriter, r request) error {
	q, err := a.lookupQuery(r)
	if err != nil {
		return err
	}
	text, err := wantsText(r)
	if err != nil {
		return err
	}
	view, index, err := a.awaitView(r, a.lookupSubject(q.Name), discovery.ScopesOf(q.Name, a.options.Domain, true)...)
	if err != nil {
		return err
	}
	if isPlain(r.query) {
		var answer viewAnswer
		if a.plainLookup(&answer, view, q.Name, text, r.Header["If-None-Match"]) {
			release, err := a.reserveShared(answer.room, len(answer.body))
			if err != nil {
				return err
			}
			defer release()
			a.extend(w) // the caller may have waited for long
			return answer.write(w)
		}
	}
	q.NoLoad = view.Age > discovery.LoadReportTTL
	answer, err := lookup.Lookup(view.Snapshot, q)
	switch {
	case err != nil && q.Explain:
		return a.explainUnknown(r, view, q.Name, err)
	case err != nil:
		return err
	case q.Explain:
		answer.Answered = lookup.AnsweredFrom(view, isPrepared(r.query, view.Snapshot, q.Name))
	}
	header := a.headerOf(view, index)
	header.varies = true
	if header.etag.text, err = etagOf(answer, text); err != nil {
		return err
	}
	contentType := jsonType
	if text {
		contentType = textType
	}
	return a.writeView(w, r, header, contentType, func() ([]byte, error) { return encodeAnswer(answer, text) })
}

func (a *API) lookupQuery(r request) (lookup.Query, error) {
	selector, err := r.query.selector()
	if err != nil {
		return lookup.Query{}, err
	}
	q := lookup.Query{
		Name: r.PathValue("name"), Domain: a.options.Domain,
		Selector: selector, Status: discovery.StatusFilter(r.query.Get("status")),
	}
	switch r.query.Get("prefer") {
	case "":
	case "zone":
		q.PreferZone = a.options.Zone
	default:
		return lookup.Query{}, invalid("prefer %q is unknown; use zone", r.query.Get("prefer"))
	}
	if q.Pick, err = number(r.query, "pick", strconv.Atoi, 0); err != nil {
		return lookup.Query{}, err
	}
	if r.query.Has("pick") && q.Pick == 0 {
		return lookup.Query{}, invalid("pick 0 is out of range; use 1 to 65536")
	}
	if q.PanicThreshold, err = number(r.query, "panic", parseFloat, a.options.Panic); err != nil {
		return lookup.Query{}, err
	}
	if q.Explain, err = r.query.flag("explain"); err != nil {
		return lookup.Query{}, err
	}
	return q, q.Validate()
}

// isPlain reports whether a lookup has no options except those that make it wait and
// choose its form: its answer is the cached one.
func isPlain(p params) bool {
	for name := range p.Values {
		if name != "index" && name != "wait" && name != "format" {
			return false
		}
	}
	return true
}

func parseFloat(s string) (float64, error) { return strconv.ParseFloat(s, 64) }

// lookupSubject is the subject of a lookup. The meaning of a name may change while the
// lookup waits: an exact service name comes first.
func (a *API) lookupSubject(name string) subject {
	return func(s *view.Snapshot) (string, int64) {
		parsed, err := discovery.ParseName(name, a.options.Domain)
		if _, exact := s.Service(name); exact || err != nil {
			return serviceSubject(name)(s)
		}
		if parsed.Kind == discovery.NameNode {
			return nodesSubject(s)
		}
		return serviceSubject(parsed.Service)(s)
	}
}

// encodeAnswer returns the body of a lookup's answer: lines or JSON.
func encodeAnswer(answer lookup.Answer, text bool) ([]byte, error) {
	if text {
		return hostports(answer), nil
	}
	return encode(answer)
}

// etagOf returns the entity tag of an answer. It is made of the content, so that it is
// the same for all agents and after a restart. It covers neither the order of the
// endpoints nor the revision nor what answered, so it is a weak one.
func etagOf(answer lookup.Answer, text bool) (string, error) {
	answer.Revision, answer.Answered = 0, nil
	answer.Endpoints = slices.SortedFunc(slices.Values(answer.Endpoints), func(a, b discovery.Endpoint) int {
		return strings.Compare(a.ID, b.ID)
	})
	form := "j"
	if text {
		form = "t"
	}
	body, err := encodeAnswer(answer, text)
	return `W/"` + form + digest(body) + `"`, err
}

// hostports returns an answer as lines: "10.0.0.5:8080", "[2001:db8::1]:8080", and the
// address alone where there is no port.
func hostports(answer lookup.Answer) []byte {
	var b []byte
	for _, e := range answer.Endpoints {
		ip, err := netip.ParseAddr(e.Address)
		switch {
		case e.Port == 0:
			b = append(b, e.Address...)
		case err == nil && ip.Is6():
			b = append(append(append(b, '['), e.Address...), ']')
		default:
			b = append(b, e.Address...)
		}
		if e.Port != 0 {
			b = strconv.AppendInt(append(b, ':'), int64(e.Port), 10)
		}
		b = append(b, '\n')
	}
	return b
}

// wantsText reports whether the caller wants lines: by ?format= or, without it, by the
// Accept header.
func wantsText(r request) (bool, error) {
	switch format := r.query.Get("format"); format {
	case "":
		return acceptsText(r.Header["Accept"]), nil
	case "text", "json":
		return format == "text", nil
	default:
		return false, invalid("format %q is unknown; use json or text", format)
	}
}

// acceptsText reports whether Accept prefers text/plain to JSON (RFC 9110, section
// 12.5.1). In doubt it does not.
func acceptsText(accept []string) bool {
	if len(accept) == 0 || len(accept) == 1 && accept[0] == "*/*" {
		return false
	}
	text, json := -1.0, -1.0
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, parameters, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "text/plain", "text/*":
			text = max(text, quality(parameters))
		case "application/json", "application/*", "*/*":
			json = max(json, quality(parameters))
		}
	}
	return text > 0 && text > json
}

// quality returns the weight q in the parameters of a media range; 1: there is none.
func quality(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if strings.EqualFold(name, "q") {
			q, err := parseFloat(value)
			if err != nil {
				return 0
			}
			return q
		}
	}
	return 1
}
