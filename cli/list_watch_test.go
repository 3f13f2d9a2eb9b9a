package cli

import "testing"

// A list that follows changes says that it begins empty, as the list alone does.
func TestListWatchOfNothing(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	services, critical := term.start("list", "-w"), term.start("list", "-w", "--status", "critical")
	services.says(`no services in namespace "default"`)
	critical.says(`no such instances in namespace "default"`)
	term.ok("set", "web/one", "10.0.0.1:1", "--tag", "v2")
	services.prints("web      1        1      v2    2         one: new\n")
	term.ok("set", "Web/two", "10.0.0.2:1", "--tag", "eu")
	services.prints("web      2        2      eu,v2  3         two: new\n")
	term.ok("unset", "web/one")
	services.prints("web      1        1      eu     4         one: delete, removed\n")
}
