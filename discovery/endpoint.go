package discovery

// Endpoint is an instance as an answer to a lookup.
type Endpoint struct {
	ID      string `json:"id"`
	Node    string `json:"node,omitempty"`
	Address string `json:"address"`
	Port    int    `json:"port"` // the named port, where one was asked for
	Ports   Ports  `json:"ports"`
	Zone    string `json:"zone,omitempty"`
	Weight  int    `json:"weight"`
	Tags    Tags   `json:"tags"`
	Meta    Meta   `json:"meta"`
	Status  Status `json:"status"`
	State   State  `json:"state,omitempty"` // only when it is not up
	Suspect bool   `json:"suspect,omitempty"`

	Utilization *float64 `json:"utilization,omitempty"` // only where it was picked by that; see [Load]
}
