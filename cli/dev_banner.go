package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sync/errgroup"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/retry"
)

// announce runs the demo's services, and prints the banner once they are registered.
func (a *app) announce(ctx context.Context, o devOptions, at net.Addr, dns netip.AddrPort, endpoint string) error {
	url := a.agentURL(at)
	client, err := a.agentAt(ctx, url)
	if err != nil {
		return err
	}
	defer client.CloseIdle()
	var services []*demoService
	if o.demo {
		if services, err = startDemo(ctx); err != nil {
			return err
		}
		defer stopDemo(services)
	}
	group, ctx := errgroup.WithContext(ctx)
	var registered []<-chan struct{}
	for _, s := range services {
		h := newRegistrationHolder(client, s.registration(), a.infof)
		registered = append(registered, h.registered)
		group.Go(func() error {
			h.run(ctx)
			return nil
		})
	}
	group.Go(func() error {
		if !awaitReady(ctx, client, registered) {
			return nil
		}
		_, err := fmt.Fprint(a.io.Out, banner(programName(), url, endpoint, dns, services))
		return err
	})
	return group.Wait()
}

// awaitReady waits until the agent has a view and the services are registered. It returns
// false if ctx ends first.
func awaitReady(ctx context.Context, client *api.Client, registered []<-chan struct{}) bool {
	for _, r := range registered {
		select {
		case <-r:
		case <-ctx.Done():
			return false
		}
	}
	var backoff retry.Backoff
	for {
		if _, _, err := client.Services(ctx, api.Wait{}); err == nil || errors.Is(err, discovery.ErrForbidden) { // it answers, if not to us
			return true
		}
		if backoff.Wait(ctx) != nil {
			return false
		}
	}
}

// agentURL returns the URL of the sidecar's API, for --agent on this host.
func (a *app) agentURL(at net.Addr) string {
	if at.Network() == "unix" {
		return "unix://" + at.String()
	}
	scheme := "http://"
	if a.config.HTTP.TLS.Cert != "" {
		scheme = "https://"
	}
	return scheme + dialable(at.String())
}

// dialable returns the address to connect to for a listen address.
func dialable(address string) string {
	at, err := netip.ParseAddrPort(address)
	switch {
	case err != nil || !at.Addr().IsUnspecified():
		return address
	case at.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port()).String()
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), at.Port()).String()
}

// programName returns the command that calls this program: its name if PATH finds it.
func programName() string {
	program, err := os.Executable()
	if err != nil {
		return "disc"
	}
	if strings.Contains(program, "/go-build") { // of 'go run'
		return "go run ./cmd/disc"
	}
	if found, err := exec.LookPath("disc"); err == nil && sameFile(found, program) {
		return "disc"
	}
	return program
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// banner returns commands to try next, ready to be copied.
func banner(program, url, endpoint string, dns netip.AddrPort, services []*demoService) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	etcdFlag, agentFlag := "", ""
	if endpoint != "127.0.0.1:2379" {
		etcdFlag = " --endpoints " + endpoint
	}
	if url != "http://"+api.DefaultAddress {
		agentFlag = " --agent " + url
	}
	listening := fmt.Sprintf("agent at %s, etcd at %s", url, endpoint)
	if dns.IsValid() {
		listening += fmt.Sprintf(", DNS at %v", dns)
	}
	line("disc is running: %s. Ctrl-C ends it.", listening)
	line("\nTry, in another terminal:")
	if len(services) == 0 {
		line("  %s set web/web-1 127.0.0.1:8080%s", program, etcdFlag)
	}
	line("  %s list%s", program, etcdFlag)
	line("  %s lookup web%s", program, agentFlag)
	if socket, ok := strings.CutPrefix(url, "unix://"); ok {
		line("  curl --unix-socket %s http://localhost/v1/lookup/web", socket)
	} else {
		line("  curl %s/v1/lookup/web", strings.TrimPrefix(url, "http://"))
	}
	if len(services) > 0 {
		line("\nKill one, and look it up again:")
		for _, s := range services {
			line("  kill %-7d # %s/%s at 127.0.0.1:%d", s.process.Process.Pid, s.service, s.id, s.port)
		}
	}
	return b.String()
}
