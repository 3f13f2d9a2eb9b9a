package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/agent/api"
	"disc/discovery/devetcd/etcdtest"
)

// exampleTTL is the TTL of the applications' claims.
const exampleTTL = 5 * time.Second

// client returns a client of the first host's agent.
func (x *example) client() *api.Client {
	x.t.Helper()
	c, err := api.NewClient(x.agents[0])
	if err != nil {
		x.t.Fatal(err)
	}
	return c
}

// missesLimit sends while there is no limit yet: that is no fault of the caller, and no crash.
func (x *example) missesLimit() {
	x.t.Helper()
	for _, host := range x.hosts {
		var answer *http.Response
		if !await(func() bool {
			request, err := http.NewRequestWithContext(x.t.Context(), "POST", host+"/send", nil)
			if err != nil {
				return false
			}
			answer, err = x.http.Do(request)
			return err == nil // else it is still starting
		}) {
			x.t.Fatal("the application does not start")
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") != "" || len(body) == 0 {
			x.t.Errorf("POST /send without a limit: %s, %v, %s", answer.Status, answer.Header, body)
		}
	}
}

// claims returns the GPUs that are claimed, with their fences.
func (x *example) claims() map[string]int64 {
	x.t.Helper()
	var list api.ClaimList
	if err := poll(waitTimeout, func() (err error) {
		list, err = x.client().Claims(x.t.Context(), "gpu")
		return err
	}); err != nil {
		x.t.Fatal(err)
	}
	all := map[string]int64{}
	for _, c := range list.Claims {
		all[c.Instance] = c.Fence
	}
	return all
}

// starts makes a request that works for a long time, and returns the GPU that it has, how to leave,
// and its answer.
func (x *example) starts(host string) (gpu string, fence int64, leave func(), answer <-chan int) {
	x.t.Helper()
	ctx, cancel := context.WithCancel(x.t.Context())
	x.t.Cleanup(cancel)
	got := make(chan int, 1)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // without a time limit
	go func() {
		request, err := http.NewRequestWithContext(ctx, "POST", host+"/work?seconds=3600", nil)
		if err != nil {
			got <- 0
			return
		}
		resp, err := client.Do(request)
		if err != nil {
			got <- 0
			return
		}
		resp.Body.Close()
		got <- resp.StatusCode
	}()
	if !await(func() bool {
		for gpu, fence = range x.claims() {
			return true
		}
		return false
	}) {
		x.t.Fatal("no GPU is claimed")
	}
	return gpu, fence, cancel, got
}

// renewsClaim works for longer than a claim lasts, which is renewed, and leaves: it is released. On a
// slow machine a claim may be lost before it is renewed; one that nobody renews is lost always.
func (x *example) renewsClaim() {
	x.t.Helper()
	for _, host := range x.hosts {
		if !await(func() bool {
			gpu, fence, leave, _ := x.starts(host)
			renewed := x.lasts(gpu, fence, 2*exampleTTL)
			leave()
			if !await(func() bool { return len(x.claims()) == 0 }) {
				x.t.Fatalf("the caller has left, and the claims are still %v", x.claims())
			}
			return renewed
		}) {
			x.t.Fatalf("%s renews no claim", host)
		}
	}
}

// lasts reports whether a GPU is claimed with the same fence for a time.
func (x *example) lasts(gpu string, fence int64, limit time.Duration) bool {
	x.t.Helper()
	for began := time.Now(); time.Since(began) < limit; time.Sleep(exampleTTL / 10) {
		if x.claims()[gpu] != fence {
			return false
		}
	}
	return true
}

// losesClaim removes the GPU that is worked on: the caller hears of it.
func (x *example) losesClaim() {
	x.t.Helper()
	gpu, _, _, answer := x.starts(x.hosts[0])
	x.must("DELETE", x.agents[0]+"/v1/services/gpu/instances/"+gpu, "")
	select {
	case status := <-answer:
		if status != http.StatusConflict {
			x.t.Errorf("the claim is lost: got %d", status)
		}
	case <-time.After(waitTimeout):
		x.t.Error("the claim is lost, and the work goes on")
	}
	x.must("PUT", x.agents[0]+"/v1/services/gpu/instances/"+gpu, `{"address":"127.0.0.1","port":9009}`)
}

// works asks for work until it is done, or is answered as it is to be: a slow machine may lose the claim,
// or wait for etcd in vain.
func (x *example) works(want int) (status int, r reply, err error) {
	x.t.Helper()
	await(func() bool {
		status, r, err = x.ask("POST", x.hosts[0]+"/work", "")
		return err == nil && (status == want || status == http.StatusOK)
	})
	return status, r, err
}

// usesFence has a later claim write its result first: an earlier one is refused.
func (x *example) usesFence() {
	x.t.Helper()
	for n := range 3 {
		x.must("PUT", fmt.Sprintf("%s/v1/kv/app/results/gpu-%d/0", x.agents[0], n), `{"fence":1000000000000}`)
	}
	if status, _, err := x.works(http.StatusConflict); err != nil || status != http.StatusConflict {
		x.t.Errorf("work with an old fence: %d, %v", status, err)
	}
	for n := range 3 {
		x.must("DELETE", fmt.Sprintf("%s/v1/kv/app/results/gpu-%d/0", x.agents[0], n), "")
	}
	if status, r, err := x.works(http.StatusOK); err != nil || status != http.StatusOK || r.Fence == 0 {
		x.t.Errorf("work: %d, %v", status, err)
	} else if item, _, err := x.client().KVGet(x.t.Context(), "app/results/"+r.GPU+"/0", api.KVRead{Linearizable: true}); err != nil {
		x.t.Error(err)
	} else {
		var written reply
		if err := json.Unmarshal(item.Value, &written); err != nil || written.Fence != r.Fence {
			x.t.Errorf("the result has %s (%v), want fence %d", item.Value, err, r.Fence)
		}
	}
}

// answersWithoutEtcd has etcd hang. While each worker waits for it, all go on answering.
func (x *example) answersWithoutEtcd(etcd *etcdtest.Link) {
	x.t.Helper()
	const writers = 8
	etcd.Freeze()
	defer etcd.Mend()
	var ended atomic.Int64
	var all errgroup.Group
	for range writers {
		all.Go(func() error {
			status, _, err := x.ask("PUT", x.hosts[0]+"/greeting", "late")
			ended.Add(1)
			if err == nil && status != http.StatusServiceUnavailable {
				err = fmt.Errorf("PUT /greeting without etcd: %d", status)
			}
			return err
		})
	}
	answered := 0
	for ended.Load() == 0 {
		if status, _, err := x.ask("GET", x.hosts[0]+"/healthz", ""); err == nil && status == http.StatusOK && ended.Load() == 0 {
			answered++
		}
	}
	if err := all.Wait(); err != nil {
		x.t.Error(err)
	}
	if answered < 2 {
		x.t.Errorf("%d other requests were answered while workers waited for etcd", answered)
	}
}
