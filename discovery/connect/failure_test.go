package connect

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestFailureOf(t *testing.T) {
	dial := func(network string, err error) error {
		return &net.OpError{Op: "dial", Net: network, Err: err}
	}
	kernel := func(network string, errno syscall.Errno) error {
		return dial(network, os.NewSyscallError("connect", errno))
	}
	for name, test := range map[string]struct {
		err  error
		want Failure
	}{
		"refused":           {kernel("tcp", syscall.ECONNREFUSED), Failure{Refused, "connection refused"}},
		"no route":          {kernel("tcp", syscall.EHOSTUNREACH), Failure{Refused, "no route to host"}},
		"no socket":         {kernel("unix", syscall.ENOENT), Failure{Refused, "no such file or directory"}},
		"socket of others":  {kernel("unix", syscall.EACCES), Failure{NotPermitted, "permission denied"}},
		"protected socket":  {kernel("unix", syscall.EPERM), Failure{NotPermitted, "operation not permitted"}},
		"firewall":          {kernel("tcp", syscall.EPERM), Failure{Local, "operation not permitted"}},
		"files of process":  {kernel("tcp", syscall.EMFILE), Failure{Local, "too many open files"}},
		"files of host":     {kernel("tcp", syscall.ENFILE), Failure{Local, "too many open files in system"}},
		"ports":             {kernel("tcp", syscall.EADDRNOTAVAIL), Failure{Local, "cannot assign requested address"}},
		"no answer to TCP":  {kernel("tcp", syscall.ETIMEDOUT), Failure{NoAnswer, "no answer to the attempt to connect"}},
		"time of dial":      {dial("tcp", os.ErrDeadlineExceeded), Failure{NoAnswer, "no answer to the attempt to connect"}},
		"time of a read":    {&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}, Failure{NoAnswer, "no answer in time"}},
		"time of a request": {fmt.Errorf("%w (Client.Timeout exceeded)", context.DeadlineExceeded), Failure{NoAnswer, "no answer in time"}},
		"lost":              {&net.OpError{Op: "read", Net: "tcp", Err: syscall.ETIMEDOUT}, Failure{NoAnswer, "no answer in time"}},
		"reset":             {&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, Failure{Other, "connection reset by peer"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := FailureOf(test.err); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
