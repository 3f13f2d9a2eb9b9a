package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"disc/agent/api"
	"disc/discovery"
)

// historyParams are the parameters of a read of earlier values. Others do not go with them.
var historyParams = []string{"rev", "history", "max"}

// asksForPast reports whether a read is about earlier values.
func (p params) asksForPast() bool {
	return slices.ContainsFunc(historyParams, p.Has)
}

// kvPast answers with the value that a key had at a revision, or with its history.
func (a *API) kvPast(w http.ResponseWriter, r request, key string) error {
	for name := range r.query.Values {
		if !slices.Contains(historyParams, name) {
			return invalid("%s cannot be combined with rev or history", name)
		}
	}
	switch {
	case wantsEvents(r.Header.Get("Accept")):
		return invalid("a stream of events cannot begin at an earlier revision; leave out rev and history")
	case strings.HasSuffix(key, "/"):
		return invalid("%q is a prefix; rev and history are for one key", key)
	}
	history, err := r.query.flag("history")
	if err != nil {
		return err
	}
	revision, err := number(r.query, "rev", parseRevision, 0)
	if err != nil {
		return err
	}
	switch {
	case history:
		return a.kvHistory(w, r, key, revision)
	case r.query.Has("max"):
		return invalid("max is for ?history")
	}
	item, view, err := a.backends.KV.GetAt(r.Context(), key, revision)
	header, err := kvPastHeader(w, view, err)
	if err != nil {
		return err
	}
	header.etag.text = api.KVTag(item.Revision)
	return a.writeView(w, r, header, binaryType, func() ([]byte, error) { return item.Value, nil })
}

func (a *API) kvHistory(w http.ResponseWriter, r request, key string, from int64) error {
	most, err := number(r.query, "max", strconv.Atoi, api.DefaultKVVersions)
	if err != nil {
		return err
	}
	history, view, err := a.backends.KV.History(r.Context(), key, api.KVHistoryOptions{From: from, Max: most})
	header, err := kvPastHeader(w, view, err)
	if err != nil {
		return err
	}
	return a.writeView(w, r, header, jsonType, func() ([]byte, error) { return encode(history) })
}

// kvPastHeader returns the header of an answer with earlier values. An answer that there
// are none has it too.
func kvPastHeader(w http.ResponseWriter, view KVFreshness, err error) (viewHeader, error) {
	header := kvHeaderOf(view)
	if errors.Is(err, discovery.ErrNotFound) {
		header.set(w.Header())
	}
	return header, err
}
