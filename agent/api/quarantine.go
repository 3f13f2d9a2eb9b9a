package api

import (
	"context"
	"net/url"
	"time"

	"disc/discovery"
)

// Quarantine is the length of quarantines in the namespace, and the quarantine that goes on. In a
// quarantine no lock and no claim is granted, after etcd was wiped, restored or replaced.
type Quarantine struct {
	Length         discovery.Duration `json:"length"`                     // as it was last set
	InEffectWithin discovery.Duration `json:"in_effect_within,omitempty"` // absent: the length is in effect
	Active         bool               `json:"active"`                     // a quarantine goes on
	Reason         string             `json:"reason,omitempty"`           // why it was begun
	EndsWithin     discovery.Duration `json:"ends_within,omitempty"`
}

const quarantinePath = "/v1/quarantine"

// Quarantine returns the length of quarantines, and the quarantine that goes on, as etcd has them.
func (c *Client) Quarantine(ctx context.Context) (Quarantine, error) {
	var q Quarantine
	_, err := c.call(ctx, request{method: "GET", path: quarantinePath}, &q)
	return q, err
}

// SetQuarantine sets the length of quarantines. It takes effect when every promise has ended that
// was made under the length before. ErrInvalid: the length is out of range; ErrConflict: the change
// before has not taken effect yet; ErrForbidden: the agent has no token.
func (c *Client) SetQuarantine(ctx context.Context, length time.Duration) (Quarantine, error) {
	var q Quarantine
	_, err := c.call(ctx, request{method: "PUT", path: quarantinePath, query: url.Values{"length": {length.String()}}}, &q)
	return q, err
}
