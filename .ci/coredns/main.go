// Program coredns is CoreDNS with the plugins that deploy/Corefile and deploy/kubernetes.yaml
// name. With all its plugins it takes minutes to build.
package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bufsize"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
)

func main() { coremain.Run() }
