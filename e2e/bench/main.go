// Command bench measures what disc costs, each figure beside that of what it is
// compared with, in turns, in one run on one machine:
//
//	go run ./e2e/bench                      everything
//	go run ./e2e/bench -run '^http' -check  some rows; exit 1 when one misses its bound
//	go run ./e2e/bench -json out.json -chart out.svg
//
// It builds disc, starts all that it needs on loopback (an etcd, agents, Redis, and the
// bare handlers that disc is held against, each a process of its own), and ends it
// again. The load comes from wrk, dnsperf and redis-benchmark; a row whose programs
// are not installed is left out, and the table says so.
//
// To see where an agent's time goes, give it a Unix socket (http.socket in its
// settings), load it, and profile it there; over TCP, with http.token_file set, the
// same is to be had with the token:
//
//	curl -o cpu.out --unix-socket disc.sock 'http://disc/debug/pprof/profile?seconds=10'
//	curl -o heap.out -H "Authorization: Bearer $(cat token)" http://127.0.0.1:3472/debug/pprof/heap
//	go tool pprof -http :0 cpu.out
//
// The hot functions have benchmarks of their own:
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

// settings say what is measured, and for how long.
type settings struct {
	names  *regexp.Regexp // of the rows; all if empty
	rounds int            // each has both sides
	window time.Duration  // of one side in one round
	quick  bool           // small and short: to see that all works
	check  bool
	json   string // file to write; empty: none
	chart  string // the same
}

func parse(args []string, usage io.Writer) (settings, error) {
	s := settings{window: 2 * time.Second}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	names := flags.String("run", "", "measure the rows whose `names` match")
	flags.IntVar(&s.rounds, "rounds", 5, "rounds, each of both sides")
	flags.BoolVar(&s.quick, "quick", false, "one short round with little data: to see that all works, not how fast")
	flags.BoolVar(&s.check, "check", false, "end with 1 when a bound is missed")
	flags.StringVar(&s.json, "json", "", "write all figures to a `file`")
	flags.StringVar(&s.chart, "chart", "", "draw the ratios into an SVG `file`")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("%q is no flag; choose rows with -run", flags.Arg(0))
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

// bench is the command.
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
		return fmt.Errorf("ended before the last row: %w", err)
	}
	if s.check {
		return r.missed()
	}
	return nil
}
