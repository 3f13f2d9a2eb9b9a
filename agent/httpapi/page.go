package httpapi

import (
	"net/http"
	"strings"
)

// Page is the page for people.
type Page interface {
	// Serve answers a request for the page, at "/", or for one of its files, below "/ui/". It
	// returns false, and has written nothing, if there is no such file.
	Serve(w http.ResponseWriter, r *http.Request) bool
}

// addPage adds the page. It needs no scope, as it is the same for everybody: what it shows it asks
// for as any caller does.
func (a *API) addPage() {
	if a.options.Page == nil {
		return
	}
	for _, path := range []string{"/{$}", "/ui/"} {
		a.mux.Handle("GET "+path, a.serve("page", func(w http.ResponseWriter, r *http.Request) error {
			w.Header()["Vary"] = acceptValue // also of the answer to a program; a cache must not show that to a browser
			if r.URL.Path == "/" && !acceptsHTML(r.Header["Accept"]) || !a.options.Page.Serve(w, r) {
				return unknownPath(r)
			}
			return nil
		}))
	}
}

// acceptsHTML reports whether Accept names text/html and prefers it to what programs ask for
// (RFC 9110, section 12.5.1), as browsers do. "*/*" is no browser's.
func acceptsHTML(accept []string) bool {
	html, other := -1.0, -1.0
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, parameters, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "text/html":
			html = max(html, quality(parameters))
		case "application/json", "application/*", "text/plain":
			other = max(other, quality(parameters))
		}
	}
	return html > 0 && html >= other
}
