package child

import "disc/agent/reaper"

// adopt does nothing: launchd adopts all orphans of macOS.
func adopt(bool) error { return nil }

// awaitChild waits until the command has ended, and does not reap it. Its descendants never become
// children of this process.
func (p *Process) awaitChild() { reaper.AwaitExit(p.pid) }
