// Command bench measures disc beside the programs that it is compared with. Both sides
// of a comparison are measured in turn, in one run on one machine:
//
//	go run ./e2e/bench                      everything
//	go run ./e2e/bench -run '^http' -check  some rows; exit 1 when one misses its bound
//	go run ./e2e/bench -json out.json -chart out.svg
//
// It builds disc, starts what each row needs on loopback (an etcd, agents, Redis, bare
// handlers; each is a process of its own), and stops it after the row. wrk, dnsperf and
// redis-benchmark generate the load. The table leaves out a row whose programs are not
// installed, and says so.
//
// To see where an agent spends its time, set http.socket, load the agent, and profile it
// over the socket. Over TCP the profiles need a token with scope operate:
//
//	curl -o cpu.out --unix-socket disc.sock 'http://disc/debug/pprof/profile?seconds=10'
//	curl -o heap.out -H "Authorization: Bearer $(cat token)" http://127.0.0.1:3472/debug/pprof/heap
//	go tool pprof -http :0 cpu.out
//
// The hot functions have Go benchmarks:
//
//	go test -run '^$' -bench . -benchmem ./discovery ./agent/httpapi ./agent/dns
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if name := os.Getenv(roleVariable); name != "" {
		os.Exit(runRole(ctx, name, os.Args[1:]))
	}
	err := bench(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are the command's flags.
type settings struct {
	names  *regexp.Regexp // the rows to measure; an empty pattern matches all
	rounds int            // each measures both sides once
	window time.Duration  // the time of one side in one round
	quick  bool           // one short round with little data
	check  bool           // fail when a bound is missed
	json   string         // file for the figures; empty: none
	chart  string         // file for the chart; empty: none
}

func parse(args []string, usage io.Writer) (settings, error) {
	s := settings{window: 2 * time.Second}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	names := flags.String("run", "", "measure the rows whose `names` match")
	flags.IntVar(&s.rounds, "rounds", 5, "measure both sides so many times")
	flags.BoolVar(&s.quick, "quick", false, "run one short round with little data, to see that the rows work")
	flags.BoolVar(&s.check, "check", false, "exit with 1 when a bound is missed")
	flags.StringVar(&s.json, "json", "", "write all figures to a `file`")
	flags.StringVar(&s.chart, "chart", "", "draw the ratios into an SVG `file`")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q; choose rows with -run", flags.Arg(0))
	}
	if s.quick {
		s.rounds, s.window = 1, 200*time.Millisecond
	}
	var err error
	if s.names, err = regexp.Compile(*names); err != nil {
		return s, fmt.Errorf("-run: %w", err)
	}
	return s, nil
}

// bench runs the command with args, writes the table to out, and the progress to log.
func bench(ctx context.Context, args []string, out, log io.Writer) error {
	s, err := parse(args, log)
	if err != nil {
		return err
	}
	program, err := build(ctx)
	if err != nil {
		return err
	}
	defer os.RemoveAll(program.dir)
	r := report{Machine: thisMachine(), Rounds: s.rounds}
	r.Results = measureAll(ctx, s, program, log)
	r.finish()
	if err := r.save(s); err != nil {
		return err
	}
	r.print(out)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("interrupted before the last row: %w", err)
	}
	if s.check {
		return r.missed()
	}
	return nil
}
