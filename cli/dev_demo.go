package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/reaper"
	"disc/discovery"
)

// demoCommand is the name of the hidden command that is a demo service.
const demoCommand = "demo-service"

// demoService is an instance of the demo. It is a process of its own, to be killed.
type demoService struct {
	service, id string
	port        int
	process     *exec.Cmd
	stdin       io.Closer // the service ends when it is closed, however this process ends
}

// demoServiceCommand serves its name over HTTP until its standard input ends.
func (a *app) demoServiceCommand() *cobra.Command {
	return &cobra.Command{
		Use:         demoCommand + " NAME",
		Hidden:      true,
		Args:        cobra.ExactArgs(1),
		Annotations: map[string]string{withoutConfig: "true"},
		RunE: func(cmd *cobra.Command, args []string) error {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			fmt.Fprintln(a.io.Out, listener.Addr().(*net.TCPAddr).Port)
			server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, "this is %s\n", args[0])
			})}
			stop := context.AfterFunc(cmd.Context(), func() { server.Close() })
			defer stop()
			go func() {
				io.Copy(io.Discard, a.io.In) // until the parent process ends, or this one
				server.Close()
			}()
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	}
}

// startDemo starts the demo's services.
func startDemo(ctx context.Context) ([]*demoService, error) {
	services := []*demoService{
		{service: "web", id: "web-1"},
		{service: "web", id: "web-2"},
		{service: "api", id: "api-1"},
	}
	for n, s := range services {
		if err := s.start(ctx); err != nil {
			stopDemo(services[:n])
			return nil, fmt.Errorf("start the demo's %s/%s: %w", s.service, s.id, err)
		}
	}
	return services, nil
}

func (s *demoService) start(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	s.process = exec.CommandContext(ctx, program, demoCommand, s.id)
	s.process.Args[0] = "disc"
	if s.stdin, err = s.process.StdinPipe(); err != nil {
		return err
	}
	out, err := s.process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := reaper.Start(s.process); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		s.port, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		stopDemo([]*demoService{s})
	}
	return err
}

// stopDemo stops the services and waits for them.
func stopDemo(services []*demoService) {
	for _, s := range services {
		s.stdin.Close()
	}
	for _, s := range services {
		_ = reaper.Wait(s.process) // the user may have killed it, so its exit code does not matter
	}
}

// registration returns a registration with a check that soon notices a killed service.
func (s *demoService) registration() discovery.Registration {
	second := discovery.Duration(time.Second)
	return discovery.Registration{
		Service: s.service, ID: s.id, Address: "127.0.0.1", Port: s.port, Tags: discovery.Tags{"demo"},
		Checks: []discovery.CheckSpec{{
			Type: discovery.CheckHTTP, URL: fmt.Sprintf("http://127.0.0.1:%d/", s.port),
			Interval: second, Timeout: second, FailureThreshold: 1,
		}},
	}
}
