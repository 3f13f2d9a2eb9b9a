package fastpath

import (
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Each connection keeps its buffers, so requests and answers are small.
const (
	MaxBody    = 32 << 10 // bytes of an answer's body
	maxRequest = 4 << 10  // bytes of a request
)

// Answerer answers plain requests from memory. Its methods do not block, and are called
// by many goroutines at once.
type Answerer interface {
	// HostAllowed reports whether the Host header of a request may be host. local is
	// the address at which the request came in.
	HostAllowed(host string, local net.Addr) bool

	// Answer fills in the answer to a request. It returns false to leave the request to
	// net/http. a.Header is an empty buffer to append to.
	Answer(r Request, a *Answer) bool
}

// Request is a plain request: a GET without a query and without a body.
type Request struct {
	Path        string
	WantsText   bool   // Accept is text/plain; otherwise JSON is acceptable
	IfNoneMatch []byte // nil: absent; valid until Answer returns
}

// Answer is the answer to a plain request.
type Answer struct {
	// Header has the lines of the header except Content-Length, Content-Type and Date,
	// each with its "\r\n". Their names are canonical and sorted, and sort between
	// Content-Type and Date as net/http writes them: Date comes last.
	Header []byte

	NotModified bool   // the caller has the content: the answer is 304, without a body
	ContentType string // empty with NotModified
	Body        []byte // at most MaxBody bytes; it is not changed
}

// Responder answers the plain requests of one connection. It keeps what seldom changes
// from one request to the next, so that an answer allocates nothing. It is not safe for
// use by more than one goroutine.
type Responder struct {
	answerer Answerer
	local    net.Addr

	host   string // the last that was allowed
	path   string // the last that was asked for
	answer Answer
	out    []byte
	date   []byte // of second, as the header has it
	second int64
}

// NewResponder returns a Responder for a connection to a local address.
func NewResponder(a Answerer, local net.Addr) *Responder {
	return &Responder{answerer: a, local: local}
}

// Respond returns the answer to the request at the start of b, and the request's length
// in bytes; 0: net/http is to answer it. The answer is valid until the next call.
func (r *Responder) Respond(b []byte, now time.Time) (answer []byte, length int) {
	plain, length := parsePlainRequest(b)
	if length == 0 || !r.allows(plain.host) {
		return nil, 0
	}
	if string(plain.path) != r.path {
		r.path = string(plain.path)
	}
	r.answer = Answer{Header: r.answer.Header[:0]}
	if !r.answerer.Answer(Request{Path: r.path, WantsText: plain.wantsText(), IfNoneMatch: plain.ifNoneMatch}, &r.answer) {
		return nil, 0
	}
	r.write(&r.answer, now)
	return r.out, length
}

func (r *Responder) allows(host []byte) bool {
	if string(host) == r.host {
		return true
	}
	if h := string(host); httpguts.ValidHostHeader(h) && r.answerer.HostAllowed(h, r.local) {
		r.host = h
		return true
	}
	return false
}

// write writes an answer as net/http does, with its headers in the same order.
func (r *Responder) write(a *Answer, now time.Time) {
	if second := now.Unix(); second != r.second {
		r.second, r.date = second, now.UTC().AppendFormat(r.date[:0], http.TimeFormat)
	}
	b := r.out[:0]
	if a.NotModified {
		b = append(b, "HTTP/1.1 304 Not Modified\r\n"...)
	} else {
		b = strconv.AppendInt(append(b, "HTTP/1.1 200 OK\r\nContent-Length: "...), int64(len(a.Body)), 10)
		b = append(append(b, "\r\nContent-Type: "...), a.ContentType...)
		b = append(b, "\r\n"...)
	}
	b = append(append(b, a.Header...), "Date: "...)
	b = append(append(b, r.date...), "\r\n\r\n"...)
	r.out = append(b, a.Body...)
	a.Body = nil // an idle connection keeps none
}
