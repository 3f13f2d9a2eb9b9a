// Package check probes instances and reports their health.
//
// One [Scheduler] serves a whole agent: it bounds how many probes run at once and spreads their
// first runs. A [Set] holds the checks of one instance, derives their statuses from their
// results by thresholds, and reports every change:
//
//	scheduler, err := check.NewScheduler(check.Options{Registerer: registerer})
//	damper := check.NewDamper(write)
//	set, err := scheduler.NewSet(registration, check.SetOptions{Changed: damper.Offer})
//	...
//	group.Go(func() error { damper.Run(ctx); return nil })
//	group.Go(func() error { set.Run(ctx); return nil })
//
// A [Damper] stands between a set and etcd, so that a flapping check costs one write in ten
// seconds. It belongs to the instance and outlives its sets. To change the checks of a running
// instance, end its set and make another with the old one as [SetOptions.Previous]: unchanged
// checks keep their statuses and counters.
//
// A check from the HTTP API is restricted ([SetOptions.Restricted]): it connects only to loopback,
// to the addresses of this host and to [Options.Networks], and its requests only ask. NewSet
// refuses another check, and one that names a CA file, which the agent would read; and each connection is judged by its address, as a name may resolve to
// anything.
package check
