package httpapi

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// lookupRoute names the lookup in metrics, also where it goes past the mux.
const lookupRoute = "GET " + lookupPath + "{name}"

const lookupPath = "/v1/lookup/"

func (a *API) lookupRoutes() []route {
	params := slices.Concat(selectParams, []string{"prefer", "pick", "panic", "explain", "format"}, waitParams)
	return []route{{method: "GET", path: lookupPath + "{name}", params: params, handle: a.lookup}}
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
	view, index, err := a.view(r, a.looksUp(q.Name), discovery.ScopesOf(q.Name, a.options.Domain, true)...)
	if err != nil {
		return err
	}
	if isPlain(r.query) {
		if p, ok := a.plainAnswer(view, q.Name, text, r.Header["If-None-Match"]); ok {
			a.extend(w) // the caller may have waited for long
			return a.writePlain(w, p)
		}
	}
	q.NoLoad = view.Age > discovery.LoadReportTTL
	answer, err := lookup.Lookup(view.Snapshot, q)
	if err != nil {
		return err
	}
	c, err := contentOf(answer, text)
	if err != nil {
		return err
	}
	h := w.Header()
	a.setView(h, view, []string{strconv.FormatInt(index, 10)})
	h["Vary"] = varyAccept
	return a.write(w, r, c)
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
	if q.Panic, err = number(r.query, "panic", parseFloat, a.options.Panic); err != nil {
		return lookup.Query{}, err
	}
	if q.Explain, err = r.query.flag("explain"); err != nil {
		return lookup.Query{}, err
	}
	return q, q.Validate()
}

// isPlain reports whether a lookup has no options, but that it may wait and choose its
// form: its answer is the prepared one.
func isPlain(p params) bool {
	for name := range p.Values {
		if name != "index" && name != "wait" && name != "format" {
			return false
		}
	}
	return true
}

func parseFloat(s string) (float64, error) { return strconv.ParseFloat(s, 64) }

// looksUp is the subject of a lookup: what its name means may change while it waits.
func (a *API) looksUp(name string) subject {
	return func(s *view.Snapshot) (string, int64) {
		parsed, err := discovery.ParseName(name, a.options.Domain)
		if _, exact := s.Service(name); exact || err != nil {
			return aService(name)(s)
		}
		if parsed.Kind == discovery.NameNode {
			return allNodes(s)
		}
		return aService(parsed.Service)(s)
	}
}

// contentOf writes an answer. Its entity tag is that of the set, whatever its order,
// so it is a weak one.
func contentOf(answer lookup.Answer, text bool) (content, error) {
	etag, err := etagOf(answer, text)
	if err != nil {
		return content{}, err
	}
	if text {
		return content{body: hostports(answer), contentType: api.TypeText, etag: etag}, nil
	}
	body, err := encode(answer)
	return content{body: body, contentType: api.TypeJSON, etag: etag}, err
}

// etagOf makes an entity tag of all that an answer says but its order and revision.
func etagOf(answer lookup.Answer, text bool) (string, error) {
	answer.Revision = 0
	answer.Endpoints = slices.SortedFunc(slices.Values(answer.Endpoints), func(a, b discovery.Endpoint) int {
		return strings.Compare(a.ID, b.ID)
	})
	form := "j"
	body, err := encode(answer)
	if text {
		form, body = "t", hostports(answer)
	}
	return `W/"` + form + digest(body) + `"`, err
}

// hostports writes an answer as lines: "10.0.0.5:8080", "[2001:db8::1]:8080", and a
// bare address where there is no port.
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

// wantsText reports whether a lookup is to be answered in lines: ?format= decides,
// else the Accept header.
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
// 12.5.1). In doubt it is JSON.
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

// quality returns the q of a media range's parameters.
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
