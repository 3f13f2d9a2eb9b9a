package ui

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

// maxWeight is the most bytes of the whole page over the wire.
const maxWeight = 150 << 10

func get(t *testing.T, p *Page, at string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, at, http.NoBody)
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	w := httptest.NewRecorder()
	if !p.Serve(w, r) {
		t.Fatalf("there is no file at %s", at)
	}
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPage(t *testing.T) {
	p := New()
	answer := get(t, p, "/")
	html := body(t, answer)
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache", "Etag": `W/"` + p.Version() + `"`,
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Vary": "Accept, Accept-Encoding",
	} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	csp := answer.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "trusted-types 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy %q lacks %q", csp, want)
		}
	}
	if strings.Contains(csp, "unsafe") {
		t.Errorf("the policy %q allows what is unsafe", csp)
	}
	if strings.Contains(html, "VERSION") {
		t.Errorf("the page is not complete:\n%s", html)
	}
	if again := get(t, p, "/", "If-None-Match", answer.Header.Get("Etag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("a browser that has the page gets %d, want 304", again.StatusCode)
	}
}

// The page has no script and no style of its own, and names files of the agent alone.
func TestPageHasNothingInline(t *testing.T) {
	html := body(t, get(t, New(), "/"))
	for _, bad := range []string{`<script>`, `<style`, ` style=`, ` on[a-z]+=`, `https?:`, `"//`} {
		if found := regexp.MustCompile(bad).FindString(html); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
}

// All files that the page asks for come with it: what it names, and what its modules import later.
func TestPageNamesItsFiles(t *testing.T) {
	p := New()
	html := body(t, get(t, p, "/"))
	for _, at := range regexp.MustCompile(`(?:href|src)="(/ui/[^"]+)"`).FindAllStringSubmatch(html, -1) {
		get(t, p, at[1])
	}
	imports := regexp.MustCompile(`(?m)(?:^(?:import|export) .*from |\bimport\()['"](\.[^'"]+)['"]`)
	types := regexp.MustCompile(`(?s)/\*\*.*?\*/`) // only the compiler reads them
	modules := 0
	for at, f := range p.prepare().byPath {
		if path.Ext(at) != ".js" {
			continue
		}
		modules++
		for _, m := range imports.FindAllStringSubmatch(string(types.ReplaceAll(f.content, nil)), -1) {
			get(t, p, path.Join(path.Dir(at), m[1]))
		}
	}
	if modules == 0 {
		t.Error("no module was looked at")
	}
}

func TestFiles(t *testing.T) {
	p := New()
	weight := 0
	for at, f := range p.prepare().byPath {
		packed := get(t, p, at, "Accept-Encoding", "br, gzip")
		plain := get(t, p, at, "Accept-Encoding", "gzip;q=0")
		if packed.Header.Get("Content-Encoding") != "gzip" || plain.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s comes in %q with gzip and in %q without", at, packed.Header.Get("Content-Encoding"), plain.Header.Get("Content-Encoding"))
		}
		wire := body(t, packed)
		weight += len(wire)
		content, err := gzip.NewReader(strings.NewReader(wire))
		if err != nil {
			t.Fatal(err)
		}
		unpacked, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(unpacked, []byte(body(t, plain))) {
			t.Errorf("%s is not the same in both encodings", at)
		}
		if packed.Header.Get("Content-Type") == "" {
			t.Errorf("%s has no content type", at)
		}
		if kept := strings.Contains(packed.Header.Get("Cache-Control"), "immutable"); kept == f.isPage {
			t.Errorf("%s may be kept for ever is %v", at, kept)
		}
	}
	if weight > maxWeight {
		t.Errorf("the page has %d bytes over the wire, more than %d", weight, maxWeight)
	}
	t.Logf("the page has %d bytes over the wire, in %d files", weight, len(p.prepare().byPath))
}

func TestNoOtherFile(t *testing.T) {
	p := New()
	for _, at := range []string{"/ui/", "/ui/main.js", "/ui/0/main.js", "/index.html", "/ui/" + p.Version() + "/../../ui.go", "/favicon.ico"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.URL.Path = at
		if p.Serve(w, r) || w.Body.Len() > 0 || len(w.Header()) > 0 {
			t.Errorf("%s is answered", at)
		}
	}
}

// What comes from records is only text. Preact has innerHTML for an attribute that no module of ours
// names, and the policy of the page forbids it.
func TestTextStaysText(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|DOMParser|setHTML|createContextualFragment|srcdoc|\beval\b|new Function|javascript:`)
	own := 0
	for name, content := range readFiles() {
		if path.Ext(name) != ".js" || strings.HasPrefix(name, "vendor/") {
			continue
		}
		own++
		if found := forbidden.Find(content); found != nil {
			t.Errorf("%s has %s", name, found)
		}
		if lines := bytes.Count(content, []byte("\n")); lines > 400 {
			t.Errorf("%s has %d lines, more than 400", name, lines)
		}
	}
	if own == 0 {
		t.Error("no module was looked at")
	}
}

func TestAcceptsGzip(t *testing.T) {
	for line, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "br, gzip;q=0.5": true, "gzip;q=0": false, "gzip; q=0.0": false, "gzipped": false, "*": false,
	} {
		if got := acceptsGzip([]string{line}); got != want {
			t.Errorf("acceptsGzip(%q) is %v, want %v", line, got, want)
		}
	}
}

// Nothing is read or compressed before somebody opens the page.
func TestPageCostsNothingBefore(t *testing.T) {
	if n := testing.AllocsPerRun(10, func() { New() }); n > 8 {
		t.Errorf("a page that nobody opens takes %v allocations", n)
	}
}
