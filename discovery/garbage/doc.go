// Package garbage finds and removes keys in etcd that nobody owns any more.
//
// What an agent writes about itself is on the lease of its session and goes with it, so that little is
// left behind: keys that lost their lease when etcd was copied key by key, overrides of services that
// are gone, ledgers of limits that somebody removed by hand. [Find] lists them, and [FindNode] lists
// what is left of one node. [Remove] removes a key only if it and what made it garbage are unchanged, so
// that nothing is lost that came back meanwhile.
//
// Keys that are not in the layout are left alone: another version may have written them. So are the
// users' own keys, static entries and limits, which have no owner but the user.
package garbage
