package lock

import "time"

// Broken marks a lock as broken. It is part of the value of its holder's key.
type Broken struct {
	By string    `json:"by"` // who broke it
	At time.Time `json:"at"` // by the clock of the host that broke it
}
