// Package ui is the page that an agent shows to people: files in folder static, which are part
// of the program. The page speaks the HTTP API of the agent it comes from, and nothing else.
//
//	page := ui.New()
//	served := page.Serve(w, r) // false: there is no such file
//
// A page costs nothing until somebody opens it: the files stay in the program's file, and are
// read, joined, hashed and compressed at the first request. From then on they are in memory, some 400 KiB.
package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed static
var static embed.FS

const (
	folder = "static/"
	index  = "index.html"
	start  = "main.js"
	prefix = "/ui/" // of the paths of all files but the index
)

// policy is the Content-Security-Policy of the page: it runs, shows and asks only what comes from
// its own agent, and is not shown inside of another page. No text can become markup or a script.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Page is the page with its files.
type Page struct {
	prepare func() *files
}

// files are the files of a page, as they are served.
type files struct {
	version string           // identifies the content of all files; it is part of their paths
	byPath  map[string]*file // by the path of the request
}

// file is one file of a page.
type file struct {
	contentType string
	isPage      bool // the page itself, whose path stays the same
	content     []byte
	compressed  []byte // in gzip
}

// New returns the page.
func New() *Page { return &Page{prepare: sync.OnceValue(prepare)} }

// Version identifies the content of the page and of all its files.
func (p *Page) Version() string { return p.prepare().version }

// Serve answers a request for the page or one of its files. It returns false, and has written
// nothing, if there is no such file.
func (p *Page) Serve(w http.ResponseWriter, r *http.Request) bool {
	all := p.prepare()
	f, ok := all.byPath[r.URL.Path]
	if !ok {
		return false
	}
	f.serve(w, r, all.version)
	return true
}

// prepare reads and compresses all files.
func prepare() *files {
	content := readFiles()
	join(content, start)
	names := slices.Sorted(maps.Keys(content))
	all := &files{version: hashOf(names, content), byPath: map[string]*file{}}
	content[index] = bytes.ReplaceAll(content[index], []byte("VERSION"), []byte(all.version))
	packer, _ := gzip.NewWriterLevel(nil, gzip.BestCompression) // the level is valid
	for _, name := range names {
		f := &file{contentType: contentTypes[path.Ext(name)], isPage: name == index, content: content[name]}
		var packed bytes.Buffer
		packer.Reset(&packed)
		_, _ = packer.Write(content[name]) // a buffer takes all
		_ = packer.Close()
		f.compressed = bytes.Clone(packed.Bytes())
		all.byPath[all.pathOf(name)] = f
	}
	return all
}

// contentTypes are the media types of files, by their extension. The tables of the host may differ.
var contentTypes = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// readFiles returns the content of all files by their names. A file that cannot be read is a
// fault of the program.
func readFiles() map[string][]byte {
	all := map[string][]byte{}
	err := fs.WalkDir(static, path.Clean(folder), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := static.ReadFile(name)
		all[strings.TrimPrefix(name, folder)] = content
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("read the files of the page: %v", err))
	}
	return all
}

func hashOf(names []string, content map[string][]byte) string {
	hash := sha256.New()
	for _, name := range names {
		fmt.Fprintf(hash, "%s %d\n", name, len(content[name]))
		hash.Write(content[name])
	}
	return base64.RawURLEncoding.EncodeToString(hash.Sum(nil)[:9])
}

// pathOf returns the path of a file. Each version has paths of its own, so that a browser can keep
// the files for ever.
func (f *files) pathOf(name string) string {
	if name == index {
		return "/"
	}
	return prefix + f.version + "/" + name
}

func (f *file) serve(w http.ResponseWriter, r *http.Request, version string) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	if f.isPage {
		h.Set("Content-Security-Policy", policy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Vary", "Accept, Accept-Encoding")
		h.Set("Cache-Control", "no-cache")
		tag := `W/"` + version + `"` // weak: it is the same for both encodings
		h.Set("Etag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Type", f.contentType)
	body := f.content
	if acceptsGzip(r.Header.Values("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		body = f.compressed
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the caller may be gone
	}
}

// acceptsGzip reports whether an Accept-Encoding names gzip, and not with the weight 0
// (RFC 9110, section 12.5.3).
func acceptsGzip(lines []string) bool {
	for coding := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			_, q, _ := strings.Cut(strings.TrimSpace(weight), "=")
			value, err := strconv.ParseFloat(q, 64)
			return err != nil || value > 0
		}
	}
	return false
}
