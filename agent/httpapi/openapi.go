package httpapi

import (
	_ "embed"
	"net/http"
	"strconv"

	"disc/agent/access"
	"disc/agent/api"
)

//go:embed openapi.json
var openAPI []byte

func (a *API) openAPIRoutes() []route {
	return []route{{method: "GET", path: "/openapi.json", scope: access.Open, handle: serveOpenAPI}}
}

// serveOpenAPI answers with the description of the API (OpenAPI 3.1.1).
func serveOpenAPI(w http.ResponseWriter, _ request) error {
	h := w.Header()
	h.Set("Content-Type", api.TypeJSON)
	h.Set("Content-Length", strconv.Itoa(len(openAPI)))
	_, err := w.Write(openAPI)
	return err
}

// OpenAPI returns the description of the API, as /openapi.json answers it.
func OpenAPI() []byte { return append([]byte(nil), openAPI...) }
