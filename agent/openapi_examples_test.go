package agent_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api/apitest"
	"disc/agent/httpapi"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// exampleOrder is an order of the operations in which each finds what its example needs.
var exampleOrder = strings.Fields(`
	healthz readyz readyzLookup readyzRegistered openapi metrics profileCPU profile
	register report patchOverride
	lookup services instances instance nodes watch history why agent
	dnsGet dnsPost resolve prometheus discoverEndpoints
	kvPut kvGet kvGetMany kvWrite kvDelete
	lock locks lockQueue renewLock unlock lock breakLock
	claim claims renewClaim releaseClaim
	putLimit limit limits takeLimit deleteLimit
	quarantine setQuarantine
	reportLoad deleteOverride deregister
	suspects orderSuspect`)

// abridged are the operations whose answer has more than its example.
var abridged = map[string]bool{"openapi": true, "agent": true, "metrics": true, "profile": true}

// varies are the members of answers that differ from run to run.
var varies = regexp.MustCompile(`^(revision|created|fence|id of a lock|claim|slot|holder|asked|valid_for|within|registered_at|since|started|last|last_keepalive|age|epoch|` +
	`owner|agent|run|lease|version|version_info|file|value of a setting|endpoints of etcd|endpoint|member|TTL|remaining|in_effect_within|raised_within|resyncs|at|until|seen|cursor|end|heard)$`)

// exampleToken has every scope.
const exampleToken = "every-scope-for-the-examples-0123456789"

// TestExamplesOfTheDescription sends the example of each operation to an agent, and compares the
// answers with those of the description.
func TestExamplesOfTheDescription(t *testing.T) {
	t.Parallel()
	v, err := apitest.NewValidator(httpapi.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	examples, err := v.Examples()
	if err != nil {
		t.Fatal(err)
	}
	if all, sent := slices.Sorted(maps.Keys(examples)), slices.Compact(slices.Sorted(slices.Values(exampleOrder))); !slices.Equal(all, sent) {
		t.Fatalf("the operations are\n%v\nand those with a place in the order are\n%v", all, sent)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(exampleToken), 0o600); err != nil {
		t.Fatal(err)
	}
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), "http: {token_file: "+token+"}\n"))
	retrytest.Succeeds(t, func() error { return a.api.Ready(t.Context()) })
	s := &exampleSender{t: t, agent: a, validator: v}
	for _, operation := range exampleOrder {
		e := examples[operation]
		if operation == "suspects" {
			s.loseTogether(etcd.Endpoint())
		}
		if repeatable(e) {
			retrytest.Succeeds(t, func() error { return s.send(e) })
		} else if err := s.send(e); err != nil {
			t.Error(err)
		}
	}
}

// exampleSender sends examples in a row. What an answer has made up, such as the id of a lock,
// takes the place of that in the description in later requests.
type exampleSender struct {
	t         *testing.T
	agent     *running
	validator *apitest.Validator
	madeUp    []string // pairs, for strings.NewReplacer
}

// loseTogether lets the instances of another agent vanish together, which the agent has seen. They have no
// port that it could probe.
func (s *exampleSender) loseTogether(endpoint string) {
	client := etcdtest.Client(s.t, endpoint)
	lease := etcdtest.Must(client.Grant(s.t.Context(), 600))
	for _, id := range []string{"web-1", "web-2", "web-3"} {
		lost := discovery.Instance{Service: "web", ID: id, Node: "host-2", Address: "10.0.0.2", Weight: 1, Slots: 1, Status: discovery.Passing, Owner: "gone", Run: "gone"}
		etcdtest.Must(client.Put(s.t.Context(), discovery.NewKeys("default").Instance(lost.Service, id), string(lost.Encode()), clientv3.WithLease(lease.ID)))
	}
	s.agent.answers(s.t, "web", 3)
	etcdtest.Must(client.Revoke(s.t.Context(), lease.ID))
}

// repeatable reports whether an example can be sent again until the answer is right: the view gets
// changes a moment later, and a new limit its tokens.
func repeatable(e *apitest.Example) bool {
	return e.Method == "GET" || e.Operation == "takeLimit" || e.Operation == "discoverEndpoints" || e.Operation == "dnsPost"
}

func (s *exampleSender) send(e *apitest.Example) error {
	target := strings.NewReplacer(s.madeUp...).Replace(e.Target())
	body := []byte(e.Body)
	if e.Media == "application/dns-message" {
		body = apitest.Binary(e.Body)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), e.Method, s.agent.api.BaseURL+target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+exampleToken)
	if e.Media != "" {
		req.Header.Set("Content-Type", e.Media)
	}
	if e.Accept != "" {
		req.Header.Set("Accept", e.Accept)
	}
	resp, err := s.agent.api.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := readExample(resp)
	if err != nil {
		return err
	}
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s %s: %s:\n%s\n%s", e.Method, target, resp.Status, got, fmt.Sprintf(format, args...))
	}
	if resp.StatusCode != e.Status {
		return wrong("want %d", e.Status)
	}
	checked := got
	if e.Accept == "text/event-stream" {
		checked = nil // the beginning
	}
	if err := s.validator.Response(req, resp, checked); err != nil {
		return wrong("%v", err)
	}
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != e.Accept {
		return wrong("the media type is %q, want %q", media, e.Accept)
	}
	if err := s.compare(e, got); err != nil {
		return wrong("%v", err)
	}
	return nil
}

// readExample reads an answer; of a stream, the first event.
func readExample(resp *http.Response) ([]byte, error) {
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return io.ReadAll(resp.Body)
	}
	var event []byte
	for r := bufio.NewReader(resp.Body); ; {
		line, err := r.ReadBytes('\n')
		event = append(event, line...)
		if err != nil || len(line) == 1 && len(event) > 1 {
			return event, err
		}
	}
}

// compare compares an answer with that of the example.
func (s *exampleSender) compare(e *apitest.Example, got []byte) error {
	text, isText := e.Answer.(string)
	switch {
	case e.Answer == nil && e.Accept == "":
		isText = true // nothing
	case e.Answer == nil && len(got) > 0:
		return nil // in binary
	case e.Accept == "application/dns-message":
		text = string(apitest.Binary(text))
	case e.Accept == "text/event-stream":
		return s.sameEvent(text, string(got))
	case isText && abridged[e.Operation]:
		return hasLines(text, string(got))
	}
	switch {
	case !isText:
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(got))
		if err != nil {
			return err
		}
		return s.same(e.Operation, "the answer", e.Answer, value)
	case text != string(got):
		return fmt.Errorf("want %q", text)
	}
	return nil
}

var numbers = regexp.MustCompile(`[0-9.]+`)

// hasLines compares each line of an example, but for its numbers, with those of an answer.
func hasLines(example, got string) error {
	lines := strings.Split(numbers.ReplaceAllString(got, "N"), "\n")
	for line := range strings.SplitSeq(numbers.ReplaceAllString(example, "N"), "\n") {
		if !slices.Contains(lines, line) {
			return fmt.Errorf("line %q is not in the answer", line)
		}
	}
	return nil
}

// sameEvent compares two server-sent events.
func (s *exampleSender) sameEvent(example, got string) error {
	wants, gots := strings.Split(example, "\n"), strings.Split(got, "\n")
	if len(wants) != len(gots) {
		return fmt.Errorf("want %q", example)
	}
	for i := range wants {
		field, data, _ := strings.Cut(wants[i], ": ")
		gotField, gotData, _ := strings.Cut(gots[i], ": ")
		if field != gotField || field == "event" && data != gotData {
			return fmt.Errorf("want %q", wants[i])
		}
		if field != "data" {
			continue
		}
		want, err := jsonschema.UnmarshalJSON(strings.NewReader(data))
		if err != nil {
			return err
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(gotData))
		if err != nil {
			return err
		}
		if err := s.same("watch", "the event", want, value); err != nil {
			return err
		}
	}
	return nil
}

// same compares a value of an example with that of an answer; name is that of its member. Members
// that vary need the same type only.
func (s *exampleSender) same(operation, name string, want, got any) error {
	if reflect.TypeOf(want) != reflect.TypeOf(got) && !strings.HasSuffix(name, "of a setting") {
		return fmt.Errorf("%s is %v, want %v", name, got, want)
	}
	if varies.MatchString(name) {
		if w, ok := want.(string); ok && (name == "id of a lock" || name == "claim") {
			s.madeUp = append([]string{w, got.(string)}, s.madeUp...)
		}
		return nil
	}
	switch want := want.(type) {
	case map[string]any:
		return s.sameObject(operation, want, got.(map[string]any))
	case []any:
		return s.sameArray(operation, name, want, got.([]any))
	}
	if want != got {
		return fmt.Errorf("%s is %v, want %v", name, got, want)
	}
	return nil
}

func (s *exampleSender) sameObject(operation string, want, got map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, known := want[key]; !known && !abridged[operation] {
			return fmt.Errorf("%s is not in the example", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		value, ok := got[key]
		if !ok {
			return fmt.Errorf("%s is not in the answer", key)
		}
		name := key
		switch {
		case key == "id" && strings.HasSuffix(strings.ToLower(operation), "lock"):
			name = "id of a lock"
		case operation == "why" && (key == "record" || key == "override") && isNumber(value):
			name = "revision"
		case key == "value" && operation == "agent":
			name = "value of a setting"
		case key == "endpoints" && operation == "agent":
			name = "endpoints of etcd"
		}
		if err := s.same(operation, name, want[key], value); err != nil {
			return err
		}
	}
	return nil
}

func (s *exampleSender) sameArray(operation, name string, want, got []any) error {
	if name == "changes" { // where etcd does not answer the watch in time, there is a gap as well
		got = slices.DeleteFunc(slices.Clone(got), func(c any) bool { return c.(map[string]any)["change"] == string(discovery.ChangeGap) })
	}
	if len(want) != len(got) && !abridged[operation] {
		return fmt.Errorf("%s has %d elements, want %d", name, len(got), len(want))
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g any) bool { return s.same(operation, name, w, g) == nil }) {
			return fmt.Errorf("%s: no element is as %v", name, w)
		}
	}
	return nil
}

func isNumber(value any) bool {
	_, ok := value.(json.Number)
	return ok
}
