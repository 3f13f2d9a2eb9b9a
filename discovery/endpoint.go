package discovery

// Endpoint is an instance in the answer to a lookup.
type Endpoint struct {
	ID      string `json:"id"`
	Node    string `json:"node,omitempty"`
	Address string `json:"address"`
	Port    int    `json:"port"` // the named port, if one was asked for
	Ports   Ports  `json:"ports"`
	Zone    string `json:"zone,omitempty"`
	Weight  int    `json:"weight"`
	Tags    Tags   `json:"tags"`
	Meta    Meta   `json:"meta"`
	Status  Status `json:"status"`
	State   State  `json:"state,omitempty"` // absent when up
	Suspect bool   `json:"suspect,omitempty"`

	Utilization *float64 `json:"utilization,omitempty"` // only when load was used to pick; see [LoadReport]
}
