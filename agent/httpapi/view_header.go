package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"disc/agent/api"
	"disc/agent/httpapi/fastpath"
	"disc/discovery/view"
)

// viewAnswer is an answer from a view. It is written in two ways with the same bytes on
// the wire: by write over net/http, and by fill on the fast path.
type viewAnswer struct {
	viewHeader
	content
	notModified bool // the caller has the content: the answer is 304, and content is not used
}

// viewHeader holds the header values of an answer that come from the view.
type viewHeader struct {
	revision, index headerInt
	age             time.Duration
	stale           bool
	etag            headerText // empty: none
	varies          bool       // with Accept
	nosniff         bool       // anybody may have written the body: a browser must not take it for a script of the page
}

// content is the body of an answer, and the header values that describe it.
type content struct {
	body        []byte
	contentType []string
	length      []string    // nil: not formatted yet
	room        *sharedRoom // nil: only one caller has this body
}

// headerInt is an integer that is sent in a header.
type headerInt struct {
	n     int64
	value []string // n as a header has it; nil: not formatted yet
}

// headerText is a text that is sent in a header.
type headerText struct {
	text  string
	value []string // text as a header has it; nil: not made yet
}

func newHeaderInt(n int64) headerInt { return headerInt{n, []string{strconv.FormatInt(n, 10)}} }

// Values of headers that never change.
var (
	trueValue   = []string{"true"}
	acceptValue = []string{"Accept"}
	nosniff     = []string{"nosniff"}
	jsonType    = []string{api.TypeJSON}
	textType    = []string{api.TypeText}
	binaryType  = []string{"application/octet-stream"}
)

// headerOf returns the header of an answer from a view, without an entity tag.
func (a *API) headerOf(v view.View, index int64) (h viewHeader) {
	a.describe(v, &h)
	h.index = headerInt{n: index}
	return h
}

// describe sets the values of a view in h, except the index.
func (a *API) describe(v view.View, h *viewHeader) {
	revision := a.revision.Load()
	if n := v.Revision(); revision == nil || revision.n != n {
		formatted := newHeaderInt(n)
		revision = &formatted
		a.revision.Store(revision)
	}
	h.revision, h.age, h.stale = *revision, v.Age, v.Stale
}

// kvHeaderOf returns the header of an answer from the key/value state, without an
// entity tag.
func kvHeaderOf(v KVFreshness) viewHeader {
	return viewHeader{revision: headerInt{n: v.Revision}, index: headerInt{n: v.Index}, age: v.Age, stale: v.Stale, nosniff: true}
}

// set sets the headers of an answer over net/http. It writes into the map directly:
// the names are canonical, and each lookup passes here.
func (v *viewHeader) set(h http.Header) {
	var age [24]byte
	h[api.HeaderRevision] = v.revision.values()
	h[api.HeaderIndex] = v.index.values()
	h[api.HeaderAge] = []string{string(appendAge(age[:0], v.age))}
	if v.stale {
		h[api.HeaderStale] = trueValue
	}
	if v.etag.text != "" {
		h["Etag"] = v.etag.values()
	}
	if v.varies {
		h["Vary"] = acceptValue
	}
	if v.nosniff {
		h["X-Content-Type-Options"] = nosniff
	}
}

// appendTo appends the lines of the same headers, sorted by name.
func (v *viewHeader) appendTo(b []byte) []byte {
	b = append(appendAge(append(b, api.HeaderAge+": "...), v.age), "\r\n"...)
	b = append(strconv.AppendInt(append(b, api.HeaderIndex+": "...), v.index.n, 10), "\r\n"...)
	b = append(strconv.AppendInt(append(b, api.HeaderRevision+": "...), v.revision.n, 10), "\r\n"...)
	if v.stale {
		b = append(append(append(b, api.HeaderStale+": "...), trueValue[0]...), "\r\n"...)
	}
	if v.etag.text != "" {
		b = append(append(append(b, "Etag: "...), v.etag.text...), "\r\n"...)
	}
	if v.varies {
		b = append(append(append(b, "Vary: "...), acceptValue[0]...), "\r\n"...)
	}
	if v.nosniff {
		b = append(append(append(b, "X-Content-Type-Options: "...), nosniff[0]...), "\r\n"...)
	}
	return b
}

// appendAge appends an age in seconds with three decimals.
func appendAge(b []byte, age time.Duration) []byte {
	return strconv.AppendFloat(b, age.Seconds(), 'f', 3, 64)
}

func (i headerInt) values() []string {
	if i.value == nil {
		return newHeaderInt(i.n).value
	}
	return i.value
}

func (t headerText) values() []string {
	if t.value == nil {
		return []string{t.text}
	}
	return t.value
}

// write writes the answer over net/http.
func (a *viewAnswer) write(w http.ResponseWriter) error {
	h := w.Header()
	a.set(h)
	if a.notModified {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if a.length == nil {
		a.length = newHeaderInt(int64(len(a.body))).value
	}
	h["Content-Type"], h["Content-Length"] = a.contentType, a.length
	_, err := w.Write(a.body)
	return err
}

// fill makes the answer one of the fast path. It returns false if the body is too large
// for that.
func (a *viewAnswer) fill(out *fastpath.Answer) bool {
	if !a.notModified {
		if len(a.body) > fastpath.MaxBody {
			return false
		}
		out.ContentType, out.Body = a.contentType[0], a.body
	}
	out.NotModified = a.notModified
	out.Header = a.appendTo(out.Header)
	return true
}

// writeView answers from a view, or with 304 when the caller has the content. encode
// makes the body. If header has an entity tag, a 304 is answered without a call of encode;
// without one, the tag is made of the body.
func (a *API) writeView(w http.ResponseWriter, r request, header viewHeader, contentType []string, encode func() ([]byte, error)) error {
	if err := a.startWork(r); err != nil {
		return err
	}
	var body []byte
	var err error
	if header.etag.text == "" {
		if body, err = encode(); err != nil {
			return err
		}
		header.etag.text = `"` + digest(body) + `"`
	}
	answer := viewAnswer{viewHeader: header, notModified: matches(r.Header["If-None-Match"], header.etag.text)}
	if !answer.notModified {
		if body == nil {
			if body, err = encode(); err != nil {
				return err
			}
		}
		answer.content = content{body: body, contentType: contentType}
	}
	release, err := a.reserveAnswer(len(answer.body))
	if err != nil {
		return err
	}
	defer release()
	a.extend(w) // the caller may have waited for long
	return answer.write(w)
}

// reply answers a query of a view with a value as JSON.
func (a *API) reply(w http.ResponseWriter, r request, v view.View, index int64, value any) error {
	return a.writeView(w, r, a.headerOf(v, index), jsonType, func() ([]byte, error) { return encode(value) })
}
