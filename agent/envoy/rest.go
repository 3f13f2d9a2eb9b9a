package envoy

import (
	"encoding/json"
	"fmt"
	"strings"

	"disc/discovery"
	"disc/discovery/view"
)

// jsonResponse is a DiscoveryResponse in ProtoJSON, with the field names of the proto files,
// as Envoy itself writes them.
type jsonResponse struct {
	Version   string         `json:"version_info"`
	Resources []jsonResource `json:"resources"`
	Type      string         `json:"type_url"`
}

// jsonResource is an assignment as a google.protobuf.Any.
type jsonResource struct {
	Type string `json:"@type"`
	assignment
}

// Endpoints answers a DiscoveryRequest from a snapshot; both are in JSON. If the caller has
// the current version already, unchanged is true and there is no response. The error is a
// [discovery.ErrInvalid] for a request that cannot be read, that asks for another type than
// endpoints, or that names more than [MaxClusters].
func (s *Server) Endpoints(snapshot *view.Snapshot, request []byte) (response []byte, unchanged bool, err error) {
	r, err := readJSON(request)
	if err != nil {
		return nil, false, err
	}
	if len(r.names) > MaxClusters {
		return nil, false, discovery.Errorf(discovery.ErrInvalid, "%d clusters are too many; at most %d are allowed", len(r.names), MaxClusters)
	}
	named, all := withoutWildcard(r.names)
	clusters := clustersOf(snapshot, named, all || len(named) == 0)
	now := version(snapshot, clusters, s.options.Domain)
	if r.version == now {
		return nil, true, nil
	}
	out := jsonResponse{Version: now, Resources: []jsonResource{}, Type: typeURL}
	for _, a := range assignmentsOf(snapshot, clusters, s.options.Domain) {
		out.Resources = append(out.Resources, jsonResource{typeURL, a})
	}
	response, err = json.Marshal(out)
	if err != nil {
		return nil, false, fmt.Errorf("encode the endpoints: %w", err)
	}
	return response, false, nil
}

// Scopes returns the scopes that the view must have to answer a DiscoveryRequest; none if
// [Server.Endpoints] would refuse it.
func (s *Server) Scopes(request []byte) []discovery.Scope {
	r, err := readJSON(request)
	if err != nil || len(r.names) > MaxClusters {
		return nil
	}
	named, all := withoutWildcard(r.names)
	return scopesOf(subscribedServices(named, all || len(named) == 0, s.options.Domain))
}

// readJSON decodes a request. Fields may be named as in the proto file or in lowerCamelCase.
// It ignores other fields.
func readJSON(b []byte) (r request, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil || fields == nil {
		return request{}, discovery.Errorf(discovery.ErrInvalid, `the body is no DiscoveryRequest in JSON; send one, such as {"resource_names":["web"]}`)
	}
	for key, value := range fields {
		var into any
		switch strings.ToLower(strings.ReplaceAll(key, "_", "")) {
		case "versioninfo":
			into = &r.version
		case "resourcenames":
			into = &r.names
		case "typeurl":
			into = &r.typeURL
		default:
			continue
		}
		if err := json.Unmarshal(value, into); err != nil {
			return request{}, discovery.Errorf(discovery.ErrInvalid, "field %q of the DiscoveryRequest cannot be read: %s", key, strings.TrimPrefix(err.Error(), "json: "))
		}
	}
	if r.typeURL != "" && r.typeURL != typeURL {
		return request{}, discovery.Errorf(discovery.ErrInvalid, "type_url %q is not served here; ask for %s", r.typeURL, typeURL)
	}
	return r, nil
}
