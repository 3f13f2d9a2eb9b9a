package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"disc/discovery"
)

func FuzzRegistration(f *testing.F) {
	f.Add(`{"port":8080,"ports":{"grpc":9090},"checks":[{"type":"http","url":"http://127.0.0.1/","interval":"1s"}]}`)
	f.Add(`{"service":"WEB","weight":null,"deregister_after":"-1h"} `)
	f.Fuzz(func(t *testing.T, body string) {
		reg, err := decodeRegistration([]byte(body), "web", "web-1")
		switch {
		case err != nil && !errors.Is(err, discovery.ErrInvalid):
			t.Errorf("%q: %v is no ErrInvalid", body, err)
		case err == nil && (!strings.EqualFold(reg.Service, "web") || reg.ID != "web-1" || !json.Valid([]byte(body))):
			t.Errorf("%q is %+v", body, reg)
		}
	})
}

// FuzzRequest sends any request to the API: each answer agrees with the description.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/v1/lookup/web?tag=v2&pick=1&explain", "text/plain", "")
	f.Add("PUT", "/v1/services/web/instances/web-1", "", `{"port":1}`)
	f.Add("PATCH", "/v1/services/web/instances/web-1/override", "application/json", `{"tags":null,"meta":{"a":"b"}}`)
	f.Add("GET", "/v1/services/web?filter=meta.a==1&status=any", "*/*", "")
	f.Add("DELETE", "/v1/services/web/instances/web-1", "", "")
	f.Add("GeT", "/v1/lookup/web", "", "")
	fl := withWebs(2)
	fl.mine["web/web-1"] = true
	a := fl.api(f, Options{})
	a.EndStreams()
	v := description(f)
	f.Fuzz(func(t *testing.T, method, target, header, body string) {
		if method == http.MethodConnect || !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//") {
			t.Skip("not a request of a path")
		}
		r, err := http.NewRequest(method, "http://localhost"+target, strings.NewReader(body))
		if err != nil {
			t.Skip("not a request")
		}
		r.Header.Set("Accept", header)
		r.Header.Set("Content-Type", header)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		resp := w.Result()
		if resp.StatusCode >= 300 && resp.StatusCode < 304 || resp.StatusCode >= 305 && resp.StatusCode < 400 {
			return // the mux redirects paths that are not clean
		}
		if resp.StatusCode >= 500 {
			t.Fatalf("%s %s: %s", method, target, w.Body)
		}
		if err := v.Response(r, resp, w.Body.Bytes()); err != nil {
			t.Error(err)
		}
	})
}
