// Package fastpath answers plain GET requests in front of net/http, at about half of
// the cost.
//
// A plain request is a GET of a path without a query, with the few headers that common
// clients send. A [Listener] reads such requests from its connections and asks an
// [Answerer] for the answers, byte for byte those of net/http. At the first request
// that is anything else, or that the Answerer cannot answer from memory, the Listener
// hands the connection to net/http for good, with the bytes read so far. For this
// reason nothing here has to understand HTTP as a whole.
//
//	l := fastpath.NewListener(tcp, answerer, fastpath.Timeouts{ReadHeader: s.ReadHeaderTimeout, Idle: s.IdleTimeout, Write: s.WriteTimeout}, log)
//	go l.Run()
//	err := s.Serve(l) // net/http accepts the rest
//	l.Wait(ctx)       // for the requests under way
package fastpath
