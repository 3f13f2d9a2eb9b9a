package cli

import "fmt"

// otherVariables are the variables of disc that belong to no setting: those of disc dev, and those
// that commands get from disc run, lock and claim.
var otherVariables = []string{
	"DISC_ETCD_LISTEN", "DISC_DEMO",
	"DISC_SERVICE", "DISC_INSTANCE", "DISC_ADDRESS", "DISC_LOCK", "DISC_CLAIM", "DISC_FENCE",
}

// logsVariables is the annotation of commands that log unknown variables.
const logsVariables = "disc_logs_variables"

// warnOfVariables warns of variables that look like those of disc, and that nothing reads.
func (a *app) warnOfVariables() {
	for _, v := range a.io.Host.UnknownVariables(otherVariables...) {
		hint := "'disc config view -o wide' names them all"
		if v.Nearest != "" {
			hint = fmt.Sprintf("did you mean %s?", v.Nearest)
		}
		a.infof("warning: variable %s is unknown and has no effect; %s", v.Name, hint)
	}
}
