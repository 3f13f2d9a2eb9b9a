// Package connect says why a connection could not be made, in the words of the layer that
// knows: the kernel, the resolver, or TLS.
package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Kind is a kind of failure, by what has to be done about it.
type Kind int

// The kinds.
const (
	Other             Kind = iota
	Refused                // nothing listens on the port, or no way leads there
	NotPermitted           // the socket's permissions refuse this user
	Local                  // the cause lies on this host: its limits, or its firewall
	NoHost                 // the name of the host does not resolve
	NoAnswer               // the host, or what listens there, says nothing
	UnknownAuthority       // the server's certificate is signed by an authority that is not trusted
	WrongName              // the server's certificate is for other names
	BadCertificate         // the server's certificate is not valid, as when it has expired
	ClientCertificate      // the server wants a client certificate, or another one
	PlainServer            // TLS was spoken to a server without TLS
	TLSServer              // a server with TLS was spoken to without TLS
	OtherProtocol          // the server speaks another protocol
)

// Failure is why a connection could not be made.
type Failure struct {
	Kind   Kind
	Reason string
}

// FailureOf returns the failure that an error of a dial, or of a TLS handshake, stands for.
func FailureOf(err error) Failure {
	var unknown *net.DNSError
	var errno syscall.Errno
	switch {
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return Failure{NoHost, unknown.Error()}
	case isTimeout(err), errors.As(err, &unknown) && unknown.IsTimeout:
		return noAnswer(err)
	case errors.As(err, &errno):
		return Failure{kindOf(errno, err), errno.Error()}
	}
	return failureOfTLS(err)
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT)
}

// noAnswer returns the failure of an error that time is over, which may be that of a connection
// that was made.
func noAnswer(err error) Failure {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return Failure{NoAnswer, "no answer to the attempt to connect"}
	}
	return Failure{NoAnswer, "no answer in time"}
}

// kindOf returns the kind of a failure with an error of the kernel.
func kindOf(errno syscall.Errno, err error) Kind {
	switch errno {
	case syscall.ECONNRESET, syscall.EPIPE:
		return Other
	case syscall.EACCES, syscall.EPERM:
		if op, ok := errors.AsType[*net.OpError](err); ok && strings.HasPrefix(op.Net, "unix") {
			return NotPermitted
		}
		return Local
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL:
		return Local
	}
	return Refused
}

// failureOfTLS returns the failure of a TLS handshake.
func failureOfTLS(err error) Failure {
	var record tls.RecordHeaderError
	var alert *net.OpError
	switch text := err.Error(); {
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return Failure{UnknownAuthority, text}
	case errors.As(err, new(x509.HostnameError)):
		return Failure{WrongName, text}
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return Failure{BadCertificate, text}
	case errors.As(err, &alert) && alert.Op == "remote error" && strings.Contains(text, "certificate"):
		return Failure{ClientCertificate, alert.Error()}
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return Failure{PlainServer, "server gave HTTP response to HTTPS client"}
	case errors.As(err, &record):
		return Failure{PlainServer, "server answered the TLS handshake without TLS"}
	}
	return Failure{Other, err.Error()}
}

// Ended reports whether an error says that the other side has ended the connection.
func Ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
