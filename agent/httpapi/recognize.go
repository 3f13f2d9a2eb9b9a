package httpapi

import (
	"bytes"
)

// plainRequest is a GET without options: the one form of request that is answered without
// net/http. Its parts lie in the buffer that was read into.
type plainRequest struct {
	path        []byte
	host        []byte
	accept      []byte // nil: absent
	ifNoneMatch []byte // nil: absent
}

// recognize finds a plain request at the front of what was read from a connection, and
// returns its length in bytes; 0 when something else is there, or less than all of it.
//
// It is no parser of HTTP. It knows one request line and those headers that common clients
// send with it, in their usual spelling, and takes nothing that could mean something else
// to net/http, to which the rest is left.
func recognize(b []byte) (r plainRequest, n int) {
	line, n := cutLine(b)
	rest, get := bytes.CutPrefix(line, []byte("GET "))
	path, known := bytes.CutSuffix(rest, []byte(" HTTP/1.1"))
	if !get || !known || !isPlainPath(path) {
		return r, 0
	}
	r.path = path
	for {
		line, end := cutLine(b[n:])
		n += end
		switch {
		case end == 0:
			return r, 0
		case len(line) == 0 && r.host != nil:
			return r, n
		case !r.header(line):
			return r, 0
		}
	}
}

// header takes a header in, or reports that it does not know what it means.
func (r *plainRequest) header(line []byte) bool {
	name, value, ok := bytes.Cut(line, []byte(": "))
	if !ok || !isPlainValue(value) {
		return false
	}
	switch string(name) {
	case "Host", "host":
		again := r.host != nil
		r.host = value
		return !again && len(value) > 0
	case "User-Agent", "user-agent", "Accept-Encoding", "accept-encoding", "Accept-Language", "accept-language":
		return true // change nothing
	case "Connection", "connection":
		return string(value) == "keep-alive" || string(value) == "Keep-Alive"
	case "Accept", "accept":
		again := r.accept != nil
		r.accept = value
		return !again && isPlainAccept(value)
	case "If-None-Match", "if-none-match":
		again := r.ifNoneMatch != nil
		r.ifNoneMatch = value
		return !again && len(value) > 0
	}
	return false
}

func (r *plainRequest) wantsText() bool { return string(r.accept) == "text/plain" }

// isPlainAccept reports whether Accept is one of what most clients send; see acceptsText
// for what else there may be.
func isPlainAccept(value []byte) bool {
	switch string(value) {
	case "*/*", "application/json", "text/plain", "application/json, text/plain, */*":
		return true
	}
	return false
}

// cutLine returns the first line without its end, and the length with it; 0 when there is
// no whole line.
func cutLine(b []byte) (line []byte, length int) {
	at := bytes.IndexByte(b, '\n')
	if at < 1 || b[at-1] != '\r' {
		return nil, 0
	}
	return b[:at-1], at + 1
}

// isPlainPath reports whether a path stands for itself: it is absolute and clean, and has
// nothing that is encoded.
func isPlainPath(path []byte) bool {
	before := byte(0)
	for n, c := range path {
		switch {
		case n == 0 && c != '/', before == '/' && (c == '/' || c == '.'):
			return false
		case c == '/', c == '-', c == '.', c == '_', c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
			before = c
		default:
			return false
		}
	}
	return len(path) > 0
}

// isPlainValue reports whether a header's value is one that net/http takes, as it is.
func isPlainValue(value []byte) bool {
	for _, c := range value {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(bytes.TrimSpace(value)) == len(value)
}
