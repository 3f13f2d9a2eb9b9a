package e2e_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// later is a field of records that this version does not know.
const later = `"of_a_later_version":{"a":[1,{"b":null}]}`

// TestFaultBrokenRecords writes invalid records beside valid ones. Agents leave them out and count
// them, and answer with the valid ones. An edit keeps the fields that a later version has added to
// an entry.
func TestFaultBrokenRecords(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one, client := startSidecar(t, "one", etcd.endpoint), etcdtest.Client(t, etcd.endpoint)
	one.register(t, "web", "web-1")
	steady := one.steady(t, "web", "web-1")
	big := strings.Repeat("x", 1_400_000)
	broken := map[string]string{
		fleetKeys.Instance("web", "junk"):      "\x00\xff",
		fleetKeys.Instance("web", "big-junk"):  big,
		fleetKeys.Instance("web", "big"):       `{"service":"web","id":"big","address":"10.0.0.5","port":80,"blob":"` + big + `"}`,
		fleetKeys.Instance("web", "other"):     `{"service":"web","id":"another","address":"10.0.0.5","port":80}`,
		fleetKeys.Static("web", "nowhere"):     `{"service":"web","id":"nowhere","address":"","port":80}`,
		fleetKeys.Override("web", "web-1"):     `{"state":"sideways"}`,
		fleetKeys.Node("n9", "owner"):          `[]`,
		fleetKeys.Services() + "web/new/web-1": `{}`,
	}
	for key, value := range broken {
		put(t, client, key, value)
	}
	within(t, time.Now(), 2*time.Second, "all broken records are counted", func() error { return one.broken(t, len(broken)) })
	steady()
	restarted := startSidecar(t, "two", etcd.endpoint) // it lists the records that the first agent watched
	within(t, time.Now(), waitTimeout, "an agent that lists counts them all", func() error { return restarted.broken(t, len(broken)) })
	restarted.find(t, "web", "web-1")

	put(t, client, fleetKeys.Instance("web", "web-2"), `{"service":"web","id":"web-2","address":"10.0.0.5","port":80,`+later+`}`)
	put(t, client, fleetKeys.Override("web", "web-2"), `{"weight":3,`+later+`}`)
	put(t, client, fleetKeys.Static("web", "web-3"), `{"service":"web","id":"web-3","address":"10.0.0.6","port":80,`+later+`}`)
	one.find(t, "web", "web-1", "web-2", "web-3")
	p := newProgram(t, etcd.endpoint).ready(t)
	p.expect(t, 0, "weight", "set", "web/web-2", "--weight", "7")
	p.expect(t, 0, "10.0.0.7", "set", "web/web-3", "10.0.0.7:80")
	for key, change := range map[string]string{
		fleetKeys.Instance("web", "web-2"): `"port":80`, fleetKeys.Override("web", "web-2"): `"weight":7`, fleetKeys.Static("web", "web-3"): "10.0.0.7",
	} {
		if value := get(t, client, key); !strings.Contains(value, later) || !strings.Contains(value, change) {
			t.Errorf("%s is %s, want %s and %s in it", key, value, later, change)
		}
	}
	within(t, time.Now(), 2*time.Second, "the edits are seen", func() error {
		e, _, err := one.Instance(t.Context(), "web", "web-2", api.Wait{})
		if err == nil && e.Weight != 7 {
			err = fmt.Errorf("the weight is %d", e.Weight)
		}
		return err
	})
	if err := one.broken(t, len(broken)); err != nil {
		t.Error(err)
	}
}

// broken returns an error unless the agent counts so many broken records.
func (s *sidecar) broken(t *testing.T, want int) error {
	t.Helper()
	if n := int(s.metric(t, "disc_catalog_broken_records")); n != want {
		return fmt.Errorf("%d broken records, want %d", n, want)
	}
	return nil
}

func put(t *testing.T, client *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := client.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, client *clientv3.Client, key string) string {
	t.Helper()
	got, err := client.Get(t.Context(), key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%s: %v, %v", key, got, err)
	}
	return string(got.Kvs[0].Value)
}

var update = flag.Bool("update", false, "write the golden files")

// TestFaultRecordVersions runs a fleet in which another version of disc also writes. Each folder of
// testdata/records has the records of one version, and the API's answer for them.
func TestFaultRecordVersions(t *testing.T) {
	t.Parallel()
	t.Run("this version reads what others write", testRecordsRead)
	t.Run("this version writes what version 1 reads", testRecordsWritten)
}

func testRecordsRead(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one, client := startSidecar(t, "one", etcd.endpoint), etcdtest.Client(t, etcd.endpoint)
	versions, err := filepath.Glob("testdata/records/*")
	if err != nil || len(versions) < 3 {
		t.Fatal(versions, err)
	}
	for _, dir := range versions {
		service := filepath.Base(dir)
		for _, r := range [][2]string{ // the instance last: the test waits for it
			{"node.json", fleetKeys.Node("node-"+service, "owner")}, {"override.json", fleetKeys.Override(service, "a")},
			{"static.json", fleetKeys.Static(service, "b")}, {"instance.json", fleetKeys.Instance(service, "a")},
		} {
			record, err := os.ReadFile(filepath.Join(dir, r[0]))
			if err != nil {
				t.Fatal(err)
			}
			put(t, client, r[1], string(record))
		}
		within(t, time.Now(), 2*time.Second, service+" is seen", func() error {
			nodes, _, err := one.Nodes(t.Context(), api.Wait{})
			if err == nil && !slices.ContainsFunc(nodes, func(n discovery.Node) bool { return n.Node == "node-"+service }) {
				err = errors.New("the node is not shown")
			}
			return errors.Join(err, one.answers(t.Context(), service, "a", "b"))
		})
		shown, _, err := one.Instances(t.Context(), service, api.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join(dir, "shown.json"), redact(shown, "revision"))
	}
	if err := one.broken(t, 0); err != nil {
		t.Error(err)
	}
}

func testRecordsWritten(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one, client := startSidecar(t, "node-v1", etcd.endpoint), etcdtest.Client(t, etcd.endpoint)
	_, err := one.Register(t.Context(), discovery.Registration{Service: "v1", ID: "a", Address: "10.0.0.5", Port: 8080, Ports: discovery.Ports{"grpc": 9090},
		Zone: "a", Tags: discovery.Tags{"v2"}, Meta: discovery.Meta{"Team": "core"}, Checks: []discovery.CheckSpec{{Type: discovery.CheckTTL, TTL: discovery.Duration(time.Hour)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := one.ReportCheck(t.Context(), "v1", "a", "ttl", api.CheckReport{Status: discovery.Warning}); err != nil {
		t.Fatal(err)
	}
	within(t, time.Now(), waitTimeout, "the status is written", func() error {
		if status := recordStatus(t, client, fleetKeys.Instance("v1", "a")); status != discovery.Warning {
			return fmt.Errorf("the status is %s", status)
		}
		return nil
	})
	if _, _, err := one.PatchOverride(t.Context(), "v1", "a", []byte(`{"state":"up","weight":3,"tags":["v3"],"meta":{"Team":"x"}}`)); err != nil {
		t.Fatal(err)
	}
	newProgram(t, etcd.endpoint).ready(t).expect(t, 0, "made", "set", "v1/b", "db.example.com:5432", "--tag", "primary", "--zone", "b")
	written := func(file, key string, varies ...string) {
		t.Helper()
		value := get(t, client, key)
		for _, ignored := range []string{fmt.Sprintf(`,"level":%d`, discovery.OwnLevel)} { // by version 1
			value = strings.Replace(value, ignored, "", 1)
		}
		golden(t, "testdata/records/v1/"+file, redact(json.RawMessage(value), varies...))
	}
	written("instance.json", fleetKeys.Instance("v1", "a"), "owner", "run", "registered_at")
	written("override.json", fleetKeys.Override("v1", "a"))
	written("static.json", fleetKeys.Static("v1", "b"))
	var node string
	within(t, time.Now(), waitTimeout, "the agent's own record is written", func() error { // after the instances
		found, err := client.Get(t.Context(), fleetKeys.Nodes(), clientv3.WithPrefix())
		if err == nil && len(found.Kvs) != 1 {
			err = fmt.Errorf("there are %d", len(found.Kvs))
		}
		if err == nil {
			node = string(found.Kvs[0].Key)
		}
		return err
	})
	written("node.json", node, "agent", "started", "version")
}

// redact encodes a value as JSON, and replaces the values of the named fields, which vary, by fixed
// ones.
func redact(v any, varies ...string) []byte {
	fixed := map[string]string{"registered_at": `"2026-01-02T03:04:05Z"`, "started": `"2026-01-02T03:04:05Z"`, "revision": "1"}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // values that were decoded from JSON can be encoded
	}
	for _, name := range varies {
		text := cmp.Or(fixed[name], `"`+name+`"`)
		b = regexp.MustCompile(`"`+name+`":("[^"]*"|[0-9]+)`).ReplaceAll(b, []byte(`"`+name+`":`+text))
	}
	return b
}

// golden compares JSON with a golden file, or writes the file with -update.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is\n%swant\n%s%v", file, got, want, err)
	}
}
