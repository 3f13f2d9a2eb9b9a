package resolver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// CatalogSource answers from a catalog in this process, a *catalog.Catalog, which watches
// etcd without an agent.
type CatalogSource struct {
	Catalog interface {
		// View returns the newest snapshot, or a [discovery.ErrUnavailable].
		View() (view.View, error)
		// Changed returns a channel that is closed at the next change of a service; "" is
		// any service.
		Changed(service string) <-chan struct{}
		// Ensure waits until the view has the scopes, as far as they exist.
		Ensure(ctx context.Context, scopes ...discovery.Scope) error
		// Retain keeps the scopes in the view until release is called.
		Retain(scopes ...discovery.Scope) (release func())
	}
	Zone string // this host's, for prefer=zone
}

// Lookup implements [Source].
func (s CatalogSource) Lookup(ctx context.Context, q Query) (lookup.Answer, int64, error) {
	if err := s.Catalog.Ensure(ctx, discovery.ScopesOf(q.Name, "", true)...); err != nil {
		return lookup.Answer{}, 0, err
	}
	view, err := s.Catalog.View()
	if err != nil {
		return lookup.Answer{}, 0, err
	}
	query := lookup.Query{Name: q.Name, Selector: lookup.Selector{Tags: q.Tags, Zone: q.Zone, Port: q.Port}}
	if q.Prefer {
		query.PreferZone = s.Zone
	}
	answer, err := lookup.Lookup(view.Snapshot, query)
	return answer, answer.Index, err
}

// Wait implements [Source].
func (s CatalogSource) Wait(ctx context.Context, q Query, index int64) error {
	name, err := discovery.ParseName(q.Name, "")
	if err != nil {
		name.Service = "" // a service with dots in its name: wait for any change
	}
	defer s.Catalog.Retain(discovery.ScopesOf(q.Name, "", true)...)()
	changed := s.Catalog.Changed(name.Service)
	if _, now, err := s.Lookup(ctx, q); err != nil || now != index {
		return err
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// AgentSource answers from an agent's HTTP API. The zero value asks this host's agent, at
// 127.0.0.1:3472.
type AgentSource struct {
	BaseURL string       // default http://127.0.0.1:3472
	HTTP    *http.Client // default http.DefaultClient
	Token   string       // bearer token with scope read (RFC 6750), sent to this host or over TLS only; empty: none
}

// waitTime is the time for which one blocking query waits for a change.
const waitTime = time.Minute

// Lookup implements [Source].
func (a *AgentSource) Lookup(ctx context.Context, q Query) (lookup.Answer, int64, error) {
	var answer lookup.Answer
	header, err := a.get(ctx, q, nil, &answer)
	if err != nil {
		return lookup.Answer{}, 0, err
	}
	index, err := strconv.ParseInt(header.Get("Disc-Index"), 10, 64)
	if err != nil {
		return lookup.Answer{}, 0, fmt.Errorf("%s answered without Disc-Index: %w", a.base(), err)
	}
	return answer, index, nil
}

// Wait implements [Source].
func (a *AgentSource) Wait(ctx context.Context, q Query, index int64) error {
	_, err := a.get(ctx, q, url.Values{"index": {strconv.FormatInt(index, 10)}, "wait": {waitTime.String()}}, nil)
	return err
}

func (a *AgentSource) base() string {
	return strings.TrimSuffix(cmp.Or(a.BaseURL, "http://127.0.0.1:3472"), "/")
}

// get requests a lookup and decodes the answer into v, unless v is nil.
func (a *AgentSource) get(ctx context.Context, q Query, options url.Values, v any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, waitTime+10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base()+"/v1/lookup/"+url.PathEscape(q.Name)+"?"+q.values(options).Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the agent at %s: %w", a.base(), err)
	}
	if a.Token != "" {
		if req.URL.Scheme != "https" && !discovery.IsLoopback(req.URL.Hostname()) {
			return nil, discovery.Errorf(discovery.ErrForbidden, "ask the agent at %s: the token is not sent without TLS, since others on the network could read it; give an https:// address", a.base())
		}
		req.Header.Set("Authorization", "Bearer "+a.Token)
	}
	client := *cmp.Or(a.HTTP, http.DefaultClient)
	client.CheckRedirect = stayHere
	resp, err := client.Do(req)
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrUnavailable, "ask the agent at %s: %v", a.base(), err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, discovery.Errorf(discovery.ErrNotFound, "the agent at %s does not know %s", a.base(), q.Name)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, discovery.Errorf(discovery.ErrForbidden, "the agent at %s answered %s: %s", a.base(), resp.Status, detail(resp))
	case resp.StatusCode != http.StatusOK:
		return nil, discovery.Errorf(discovery.ErrUnavailable, "the agent at %s answered %s", a.base(), resp.Status)
	case v == nil:
		_, err = io.Copy(io.Discard, resp.Body)
	default:
		err = json.NewDecoder(resp.Body).Decode(v)
	}
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrUnavailable, "read the answer of the agent at %s: %v", a.base(), err)
	}
	return resp.Header, nil
}

// stayHere follows no redirect: an agent sends none, and the token is for the agent alone.
func stayHere(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// detail returns what a refusal (RFC 9457) says, at most 400 bytes of it.
func detail(resp *http.Response) string {
	var problem struct{ Detail string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<10)).Decode(&problem); err != nil || problem.Detail == "" {
		return "it gives no reason; set Token to one with scope read"
	}
	return fmt.Sprintf("%.400s", problem.Detail)
}

func (q Query) values(options url.Values) url.Values {
	v := url.Values{}
	maps.Copy(v, options)
	for _, tag := range q.Tags {
		v.Add("tag", tag)
	}
	if q.Zone != "" {
		v.Set("zone", q.Zone)
	}
	if q.Port != "" {
		v.Set("port", q.Port)
	}
	if q.Prefer {
		v.Set("prefer", "zone")
	}
	return v
}
