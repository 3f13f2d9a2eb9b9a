package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

func (a *API) kvPut(w http.ResponseWriter, r request) error {
	op := api.KVOp{Op: api.KVPut, Key: r.PathValue("key")}
	ttl, err := r.query.duration("ttl", 0, time.Second, api.MaxKVTTL)
	if err != nil {
		return err
	}
	op.TTL = discovery.Duration(ttl)
	if op.Value, err = readBody(w, r); err != nil {
		return err
	}
	if err := tooLarge(op); err != nil {
		return err
	}
	return a.kvWriteOne(w, r, op)
}

// tooLarge returns a problem if the operations are larger than allowed.
func tooLarge(ops ...api.KVOp) error {
	all := 0
	for _, op := range ops {
		if len(op.Value) > api.MaxKVValue {
			return api.NewProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the value of key %.60q has %d bytes; at most %d are allowed", op.Key, len(op.Value), api.MaxKVValue))
		}
		all += len(op.Key) + len(op.Value)
	}
	if all > api.MaxKVBatch {
		return api.NewProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("%d bytes of keys and values are too many; at most %d are allowed", all, api.MaxKVBatch))
	}
	return nil
}

func (a *API) kvDelete(w http.ResponseWriter, r request) error {
	recurse, err := r.query.flag("recurse")
	if err != nil {
		return err
	}
	if recurse {
		return a.kvDeleteBelow(w, r)
	}
	return a.kvWriteOne(w, r, api.KVOp{Op: api.KVDelete, Key: r.PathValue("key")})
}

func (a *API) kvDeleteBelow(w http.ResponseWriter, r request) error {
	if r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != "" {
		return invalid("If-Match and If-None-Match cannot be combined with recurse")
	}
	revision, err := a.backends.KV.DeleteBelow(r.Context(), r.PathValue("key"))
	if err != nil {
		return err
	}
	a.replyRevision(w, revision)
	return nil
}

// kvWriteOne does an operation under the conditions in the header of the request.
func (a *API) kvWriteOne(w http.ResponseWriter, r request, op api.KVOp) error {
	if err := conditions(r.Header, &op); err != nil {
		return err
	}
	revision, err := a.backends.KV.Write(r.Context(), op)
	if err != nil {
		return preconditionFailed(err)
	}
	if op.Op == api.KVPut {
		w.Header().Set("Etag", api.KVTag(revision))
	}
	a.replyRevision(w, revision)
	return nil
}

// replyRevision answers a write with etcd's revision and without a body.
func (a *API) replyRevision(w http.ResponseWriter, revision int64) {
	w.Header().Set(api.HeaderRevision, strconv.FormatInt(revision, 10))
	a.extend(w)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
}

// conditions reads If-Match and If-None-Match into op (RFC 9110, section 13.1).
func conditions(h http.Header, op *api.KVOp) error {
	match, none := h.Get("If-Match"), h.Get("If-None-Match")
	switch {
	case match != "" && none != "":
		return invalid("If-Match and If-None-Match exclude each other")
	case none != "" && none != "*":
		return invalid("If-None-Match %q is not supported for a write; use * for a key that must not exist", none)
	case none == "*":
		op.IfRevision = new(int64)
	case match == "*":
		op.IfExists = true
	case match != "":
		revision, err := strconv.ParseInt(strings.Trim(match, `"`), 10, 64)
		if err != nil || revision <= 0 || match != api.KVTag(revision) {
			return invalid("If-Match %q is not the tag of a key; give the ETag of an answer, such as \"41\", in its quotes", match)
		}
		op.IfRevision = &revision
	}
	return nil
}

// preconditionFailed returns err, or for a conflict a problem with status 412.
func preconditionFailed(err error) error {
	if errors.Is(err, discovery.ErrConflict) {
		return api.NewProblem(http.StatusPreconditionFailed, err.Error())
	}
	return err
}

func (a *API) kvBatch(w http.ResponseWriter, r request) error {
	var batch api.KVBatch
	if err := decodeBody(w, r, &batch); err != nil {
		return err
	}
	for _, op := range batch.Ops {
		if op.Op != api.KVPut && op.Op != api.KVDelete {
			return invalid("operation %q of key %q is unknown; use put or delete", op.Op, op.Key)
		}
	}
	keys := make([]string, len(batch.Ops))
	for n, op := range batch.Ops {
		keys[n] = op.Key
	}
	logSubject(w, keys)
	if err := r.mayUse(access.KV, keys); err != nil {
		return err
	}
	if err := tooLarge(batch.Ops...); err != nil {
		return err
	}
	revision, err := a.backends.KV.Write(r.Context(), batch.Ops...)
	if err != nil {
		return preconditionFailed(err)
	}
	w.Header().Set(api.HeaderRevision, strconv.FormatInt(revision, 10))
	return a.replyValue(w, http.StatusOK, api.KVWritten{Revision: revision})
}
