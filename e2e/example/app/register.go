package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"disc/discovery"
)

// register keeps the application registered until ctx ends, or somebody deregisters it by force. It
// returns when ctx has ended.
func (a app) register(ctx context.Context, port int) {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	r := discovery.Registration{
		Service: "app", ID: fmt.Sprintf("%s-%d", host, port), Port: port,
		Checks: []discovery.CheckSpec{{Type: discovery.CheckHTTP, URL: fmt.Sprintf("http://127.0.0.1:%d/healthz", port), Interval: discovery.Duration(2 * time.Second)}},
	}
	for ctx.Err() == nil {
		err := a.hold(ctx, r)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, discovery.ErrLost):
			log.Println("not registered any more:", err)
			<-ctx.Done()
			return
		}
		log.Println("register again in a second:", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// hold registers the application until the agent is lost or ctx ends, and deregisters it then.
func (a app) hold(ctx context.Context, r discovery.Registration) error {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel) // ends the wait for the agent's answer
	held, err := a.agent.Hold(lasting, r)
	if err != nil {
		return err
	}
	defer held.Close()
	stop()
	lost := make(chan error, 1)
	go func() { lost <- held.Wait() }()
	select {
	case err := <-lost:
		return err
	case <-ctx.Done():
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err = a.agent.Deregister(leave, r.Service, r.ID)
	return errors.Join(err, ctx.Err())
}
