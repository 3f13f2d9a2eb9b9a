package catalog_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/devetcd"
	"disc/discovery/entry"
	"disc/discovery/etcd"
)

// A Go program looks up services in memory, without a request to an agent.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := devetcd.Start(ctx, devetcd.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := etcd.Dial(ctx, etcd.Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	keys := discovery.NewKeys("default")
	editor := entry.Editor{Client: client, Keys: keys}
	if _, err := editor.PutStatic(ctx, "web", "web-1", func(i discovery.Instance) (discovery.Instance, error) {
		i.Address, i.Port = "10.0.0.1", 8080
		return i, nil
	}, entry.Options{}); err != nil {
		log.Fatal(err)
	}

	c, err := catalog.New(client, keys, catalog.Options{})
	if err != nil {
		log.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); c.Run(running) }()
	if err := c.Ensure(ctx, discovery.Scope{Service: "web"}); err != nil { // waits until it is in the view
		log.Fatal(err)
	}
	web, err := c.Service("web")
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range web.Eligible() {
		fmt.Println(e.Address, e.Port)
	}
	stop()
	<-done
	// Output: 10.0.0.1 8080
}
