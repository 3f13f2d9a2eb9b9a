package envoy

import "google.golang.org/protobuf/encoding/protowire"

// The messages of package envoy.service.discovery.v3, with the fields that are used here.
type (
	// head has the fields that both kinds of requests share.
	head struct {
		node        string // id of the Envoy; only in the first request
		typeURL     string
		nonce       string // of the response that the request acknowledges or refuses; empty: none
		nack        bool   // the client refuses the response
		errorDetail string // why it does
	}
	request struct { // DiscoveryRequest
		head
		version string // that the client has
		names   []string
	}
	response struct { // DiscoveryResponse
		version     string
		assignments []assignment
		nonce       string
	}
	deltaRequest struct { // DeltaDiscoveryRequest
		head
		subscribe, unsubscribe []string
		versions               map[string]string // that the client has, by name
	}
	deltaResponse struct { // DeltaDiscoveryResponse
		resources []resource
		removed   []string
		nonce     string
	}
	resource struct { // Resource
		version string
		assignment
	}
)

// setNode reads a Node.
func (h *head) setNode(message []byte) (err error) {
	h.node, err = stringField(message, 1)
	return err
}

// setErrorDetail reads a google.rpc.Status, whose presence makes the request a NACK.
func (h *head) setErrorDetail(message []byte) (err error) {
	h.nack = true
	h.errorDetail, err = stringField(message, 2)
	return err
}

func (r *request) decode(b []byte) error {
	return eachField(b, func(field protowire.Number, content []byte) (err error) {
		switch field {
		case 1:
			r.version, err = stringValue(field, content)
		case 2:
			err = r.setNode(content)
		case 3:
			r.names, err = appendName(r.names, field, content)
		case 4:
			r.typeURL, err = stringValue(field, content)
		case 5:
			r.nonce, err = stringValue(field, content)
		case 6:
			err = r.setErrorDetail(content)
		}
		return err
	})
}

func (r *deltaRequest) decode(b []byte) error {
	return eachField(b, func(field protowire.Number, content []byte) (err error) {
		switch field {
		case 1:
			err = r.setNode(content)
		case 2:
			r.typeURL, err = stringValue(field, content)
		case 3:
			r.subscribe, err = appendName(r.subscribe, field, content)
		case 4:
			r.unsubscribe, err = appendName(r.unsubscribe, field, content)
		case 5:
			err = r.addVersion(content)
		case 6:
			r.nonce, err = stringValue(field, content)
		case 7:
			err = r.setErrorDetail(content)
		}
		return err
	})
}

// appendName appends a cluster name. Beyond one more than [MaxClusters], which is too many
// already, it appends nothing: a name of one byte takes eight times its length in memory.
func appendName(list []string, field protowire.Number, content []byte) ([]string, error) {
	if len(list) > MaxClusters {
		return list, nil
	}
	s, err := stringValue(field, content)
	return append(list, s), err
}

// addVersion reads an entry of initial_resource_versions.
func (r *deltaRequest) addVersion(entry []byte) error {
	name, err := stringField(entry, 1)
	if err != nil {
		return err
	}
	version, err := stringField(entry, 2)
	if err != nil {
		return err
	}
	if len(r.versions) > MaxClusters {
		return nil // as in appendName
	}
	if r.versions == nil {
		r.versions = map[string]string{}
	}
	r.versions[name] = version
	return nil
}

func (r *response) appendTo(b []byte) []byte {
	b = appendString(b, 1, r.version)
	for _, a := range r.assignments {
		b = appendAny(b, 2, a)
	}
	b = appendString(b, 4, typeURL)
	return appendString(b, 5, r.nonce)
}

func (r *deltaResponse) appendTo(b []byte) []byte {
	for _, each := range r.resources {
		message := appendString(nil, 1, each.version)
		message = appendAny(message, 2, each.assignment)
		b = appendMessage(b, 2, appendString(message, 3, each.Cluster))
	}
	b = appendString(b, 4, typeURL)
	b = appendString(b, 5, r.nonce)
	for _, name := range r.removed {
		b = appendString(b, 6, name)
	}
	return b
}
