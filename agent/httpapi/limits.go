package httpapi

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

const limitPath = "/v1/limits/{name}"

func (a *API) limitRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/limits", params: []string{"usage"}, scope: access.Read, handle: a.limits},
		{method: "GET", path: limitPath, scope: access.Read, handle: a.limit},
		{method: "PUT", path: limitPath, scope: access.Operate, body: smallBody, handle: a.putLimit},
		{method: "DELETE", path: limitPath, scope: access.Operate, handle: a.deleteLimit},
		{method: "POST", path: limitPath + "/take", params: []string{"n"}, scope: access.Take, subject: "name", frequent: true, handle: a.takeLimit},
	}
}

func (a *API) limits(w http.ResponseWriter, r request) error {
	usage, err := r.query.flag("usage")
	if err != nil {
		return err
	}
	limits, err := a.backends.Limits.List(r.Context(), usage)
	if err != nil {
		return err
	}
	return a.replyWrite(w, r, http.StatusOK, 0, limits)
}

func (a *API) limit(w http.ResponseWriter, r request) error {
	limit, err := a.backends.Limits.Get(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return a.replyWrite(w, r, http.StatusOK, 0, api.Limit{Name: r.PathValue("name"), Limit: limit})
}

func (a *API) putLimit(w http.ResponseWriter, r request) error {
	var asked limitRequest
	if err := decodeBody(w, r, &asked); err != nil {
		return err
	}
	limit, err := asked.limit()
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	is, created, revision, err := a.backends.Limits.Put(r.Context(), name, limit)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	w.Header().Set(api.HeaderRevision, strconv.FormatInt(revision, 10))
	return a.replyWrite(w, r, status, 0, api.Limit{Name: name, Limit: is})
}

// limitRequest is a limit in a request. An absent field has its default; 0 is refused.
type limitRequest struct {
	Rate          float64                     `json:"rate"`
	Per           *discovery.Duration         `json:"per"`
	Burst         *int64                      `json:"burst"`
	OnUnavailable discovery.UnavailablePolicy `json:"on_unavailable"`
}

func (q limitRequest) limit() (discovery.Limit, error) {
	l := discovery.Limit{Rate: q.Rate, OnUnavailable: q.OnUnavailable}
	if q.Per != nil {
		l.Per = *q.Per
	}
	if q.Burst != nil {
		l.Burst = *q.Burst
	}
	switch {
	case q.Per != nil && l.Per == 0:
		return l, invalid("per 0s is out of range; give the time that the rate is for, or leave it out for 1s")
	case q.Burst != nil && l.Burst == 0:
		return l, invalid("burst 0 is out of range; give 1 or more, or leave it out for the tokens of one second")
	}
	return l, nil
}

func (a *API) deleteLimit(w http.ResponseWriter, r request) error {
	revision, err := a.backends.Limits.Delete(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	w.Header().Set(api.HeaderRevision, strconv.FormatInt(revision, 10))
	return a.replyWrite(w, r, http.StatusOK, 0, nil)
}

func (a *API) takeLimit(w http.ResponseWriter, r request) error {
	n, err := strconv.ParseInt(cmp.Or(r.query.Get("n"), "1"), 10, 64)
	if err != nil || n < 1 {
		return invalid("n %q is not a number of tokens; take 1 or more", r.query.Get("n"))
	}
	name := r.PathValue("name")
	d, err := a.backends.Limits.Take(r.Context(), name, n)
	if err != nil {
		return err
	}
	setRateLimit(w.Header(), name, d)
	if !d.Granted {
		w.Header().Set("Retry-After", strconv.FormatInt(d.RetrySeconds(), 10))
		return deniedProblem(name, n, d)
	}
	taken := api.Taken{Name: name, Taken: n, Remaining: d.Remaining, Unavailable: d.Unavailable}
	if d.Unavailable {
		taken.Reason = fmt.Sprintf("limit %s cannot be counted, and is set to allow then: %v", name, d.Cause)
	}
	return a.replyWrite(w, r, http.StatusOK, 0, taken)
}

// deniedProblem returns the answer to a denied take.
func deniedProblem(name string, n int64, d discovery.Decision) error {
	after := (d.RetryAfter + time.Millisecond - 1).Truncate(time.Millisecond)
	p := api.NewProblem(http.StatusTooManyRequests, fmt.Sprintf("limit %s has fewer than %d tokens left; try again in %v", name, n, after))
	if n == 1 {
		p.Detail = fmt.Sprintf("limit %s has no token left; try again in %v", name, after)
	}
	p.Type, p.Title = api.ProblemQuota, "Request cannot be satisfied as assigned quota has been exceeded"
	if d.Unavailable {
		p.Type, p.Title = api.ProblemCapacity, "Request cannot be satisfied due to temporary server capacity constraints"
		p.Detail = fmt.Sprintf("limit %s cannot be counted, and is set to deny then: %v; see 'disc status'", name, d.Cause)
	}
	p.ViolatedPolicies, p.RetryAfter = []string{name}, discovery.Duration(after)
	return p
}

// setRateLimit sets the headers of draft-ietf-httpapi-ratelimit-headers. The names of
// limits need no escapes in a structured field (RFC 9651).
func setRateLimit(h http.Header, name string, d discovery.Decision) {
	quota, window := quotaOf(d.Limit)
	reset := d.Full
	if !d.Granted {
		reset = d.RetryAfter
	}
	h.Set(api.HeaderRateLimitPolicy, fmt.Sprintf("%q;q=%d;w=%d", name, quota, window))
	h.Set(api.HeaderRateLimit, fmt.Sprintf("%q;r=%d;t=%d", name, d.Remaining, wholeSeconds(reset)))
}

// quotaOf returns a limit as whole tokens in a window of whole seconds. Both are those of
// the limit where they are whole there.
func quotaOf(l discovery.Limit) (quota, window int64) {
	window = wholeSeconds(time.Duration(l.Per))
	quota = int64(math.Floor(l.PerSecond() * float64(window)))
	if quota < 1 {
		return 1, int64(math.Ceil(1 / l.PerSecond()))
	}
	return quota, window
}

// wholeSeconds returns a duration in seconds, rounded up.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
