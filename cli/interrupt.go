package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// NotifyContext returns a context that SIGINT and SIGTERM end. [Main] learns from it which of
// the two it was. A second signal ends the process at once.
func NotifyContext(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	received := make(chan os.Signal, 1)
	signal.Notify(received, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		sig := <-received
		signal.Stop(received)
		cancel(signalError{sig.(syscall.Signal)})
	}()
	return ctx
}

// signalError is the cause of the end of a context that a signal ended.
type signalError struct{ signal syscall.Signal }

func (e signalError) Error() string { return "stopped by " + unix.SignalName(e.signal) }

// Is makes the error a context.Canceled, since clients return the cause of a context's end.
func (signalError) Is(target error) bool { return target == context.Canceled }

// stoppedError says that a signal ended a command, and how far the command had come.
type stoppedError struct {
	signal syscall.Signal
	rest   string // of the sentence, such as " while waiting for web"; "" if there is no more to say
}

func (e *stoppedError) Error() string { return signalError{e.signal}.Error() + e.rest }

// stoppedWhile returns the error of a command that ended because ctx did. It returns err, or
// the end of ctx, if no signal was the cause.
func stoppedWhile(ctx context.Context, err error, format string, args ...any) error {
	if e, ok := errors.AsType[signalError](context.Cause(ctx)); ok {
		return &stoppedError{e.signal, " while " + fmt.Sprintf(format, args...)}
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// explainStop returns an error that says that ctx has ended as one that names the signal. What
// else the error says, such as whether a write has happened, stays.
func explainStop(ctx context.Context, err error) error {
	e, ok := errors.AsType[signalError](context.Cause(ctx))
	if !ok || !errors.Is(err, context.Canceled) {
		return err
	}
	rest := err.Error()
	for _, cause := range []string{context.Canceled.Error(), e.Error()} {
		rest = strings.TrimSuffix(strings.TrimSuffix(rest, cause), ": ")
	}
	if rest != "" {
		rest = ": " + rest
	}
	return &stoppedError{e.signal, rest}
}
