package httpapi

import (
	"testing"

	"disc/agent/api"
)

// What curl -d sends is taken, whatever the method.
func TestBodiesAreTakenWithAnyContentType(t *testing.T) {
	for request, body := range map[string]string{
		"PATCH /v1/services/web/instances/web-1/override": `{"state":"drain"}`,
		"PUT /v1/services/web/instances/web-1":            `{"port":80}`,
		"PUT /v1/services/web/instances/web-1/load":       `{"utilization":0.5}`,
		"PUT /v1/limits/mail":                             `{"rate":5}`,
		"POST /v3/discovery:endpoints":                    `{"resource_names":["web"]}`,
	} {
		t.Run(request, func(t *testing.T) {
			f := withWebs(1)
			f.update(func() { f.mine["web/web-1"] = true })
			s := serve(t, f.api(t, Options{}))
			for _, media := range []string{"application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8", api.TypeMergePatch, "*"} {
				if got := s.do(request, body, "Content-Type: "+media); got.StatusCode >= 300 {
					t.Errorf("as %s: %s: %s", media, got.Status, got.body)
				}
			}
		})
	}
}
