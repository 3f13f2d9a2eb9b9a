// Package check probes instances and says how healthy they are.
//
// One [Scheduler] serves a whole agent: it bounds how many probes run at once and
// spreads the first ones. A [Set] holds the checks of one instance, turns their
// results into statuses by their thresholds, and reports every change:
//
//	scheduler := check.NewScheduler(check.Options{Registerer: registerer})
//	damper := check.NewDamper(write)
//	set, err := scheduler.NewSet(registration, check.SetOptions{Changed: damper.Offer})
//	...
//	group.Go(func() error { damper.Run(ctx); return nil })
//	group.Go(func() error { set.Run(ctx); return nil })
//
// A [Damper] stands between a set and etcd, so that a flapping check costs one write
// in ten seconds; it belongs to the instance and outlives its sets. To change the
// checks of a running instance, end its set and make another with the old one as
// [SetOptions.Previous]: what has not changed keeps its status and its counters.
//
// A check given by the HTTP API may reach its own instance and loopback only:
// [ValidateTarget] refuses it when it is given, [SetOptions.Restricted] watches every
// connection that it makes.
package check
