package fastpath

import "bytes"

// plainRequest is a request that is answered without net/http. Its fields are parts of
// the buffer that it was parsed from.
type plainRequest struct {
	path        []byte
	host        []byte
	accept      []byte // nil: absent
	ifNoneMatch []byte // nil: absent
}

// parsePlainRequest parses the plain request at the start of b and returns its length in
// bytes; 0: b starts with something else, or does not have the whole request.
//
// It is not a parser of HTTP. It accepts one form of request line, and the headers that
// common clients send with it, in their usual spelling. It accepts nothing that could
// mean something else to net/http.
func parsePlainRequest(b []byte) (r plainRequest, n int) {
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

// header reads a line of the header. It returns false for a line that it does not know.
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
		return true // they do not change the answer
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

// isPlainAccept reports whether Accept is one of the values that most clients send. All
// but text/plain accept JSON at least as well as text.
func isPlainAccept(value []byte) bool {
	switch string(value) {
	case "*/*", "application/json", "text/plain", "application/json, text/plain, */*":
		return true
	}
	return false
}

// cutLine returns the first line without its end, and its length with the end; 0: there
// is no whole line.
func cutLine(b []byte) (line []byte, length int) {
	at := bytes.IndexByte(b, '\n')
	if at < 1 || b[at-1] != '\r' {
		return nil, 0
	}
	return b[:at-1], at + 1
}

// isPlainPath reports whether net/http takes a path as it is: the path is absolute and
// clean, and nothing in it is percent-encoded.
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

// isPlainValue reports whether net/http takes the value of a header as it is.
func isPlainValue(value []byte) bool {
	for _, c := range value {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(bytes.TrimSpace(value)) == len(value)
}
