package faultproxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

// Proxy stands before one server. Its methods may be called concurrently.
type Proxy struct {
	address string

	mu       sync.Mutex
	target   string
	closed   bool
	listener net.Listener // nil while connections are refused
	links    map[*link]bool
	ways     [2]way
	changed  chan struct{} // closed when a way changes
	stats    Stats
	running  sync.WaitGroup
}

// Stats is what has passed.
type Stats struct {
	Connections int      // that were accepted
	Bytes       [2]int64 // that arrived, by Direction
	Lost        [2]int64 // that vanished
	Resets      int      // connections that were reset by Cut, Refuse or ResetAfter
}

// dialWithin bounds the attempt to reach the server for a new connection.
const dialWithin = 5 * time.Second

// New makes a proxy before target, as host:port, and begins to accept connections.
func New(target string) (*Proxy, error) {
	p := &Proxy{target: target, links: map[*link]bool{}, changed: make(chan struct{})}
	listener, err := listen()
	if err != nil {
		return nil, fmt.Errorf("fault proxy: %w", err)
	}
	p.address = listener.Addr().String()
	p.accepting(listener)
	return p, nil
}

// Ports are below the ephemeral range, so that no outgoing connection takes one while the proxy refuses connections.
const (
	portFirst = 6000
	portLimit = 10000
)

func listen() (net.Listener, error) {
	var last error
	for range 1000 {
		listener, err := listenOn(net.JoinHostPort("127.0.0.1", strconv.Itoa(portFirst+rand.IntN(portLimit-portFirst))))
		if err == nil {
			return listener, nil
		}
		last = err
	}
	return nil, last
}

func listenOn(address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), "tcp4", address)
}

// Address is where clients connect, as host:port. It never changes.
func (p *Proxy) Address() string { return p.address }

// SetTarget has new connections go to another server. Those that are open stay where they are.
func (p *Proxy) SetTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Stats returns what has passed so far.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Close ends every connection and returns when nothing is left. It may be called again.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	err := p.unlisten()
	for l := range p.links {
		l.reset()
	}
	p.mu.Unlock()
	p.running.Wait()
	return err
}

// accepting accepts connections until the listener is closed. The caller holds mu, or nobody else has the proxy yet.
func (p *Proxy) accepting(listener net.Listener) {
	p.listener = listener
	p.running.Go(func() {
		for {
			front, err := listener.Accept()
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				<-time.After(10 * time.Millisecond) // no file descriptors left: the next one may find some
				continue
			}
			p.running.Go(func() { p.connect(front) })
		}
	})
}

// unlisten refuses new connections. The caller holds mu.
func (p *Proxy) unlisten() error {
	if p.listener == nil {
		return nil
	}
	err := p.listener.Close()
	p.listener = nil
	return err
}

// connect reaches the server for a client, and passes on what they say until both have ended.
func (p *Proxy) connect(front net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), dialWithin)
	defer cancel()
	back, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		reset(front)
		return
	}
	l := &link{proxy: p, front: front, back: back, ended: make(chan struct{})}
	p.mu.Lock()
	if p.closed || p.listener == nil {
		p.mu.Unlock()
		reset(front)
		reset(back)
		return
	}
	p.links[l] = true
	p.stats.Connections++
	p.mu.Unlock()
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// reset ends a connection so that its other end sees a reset and not an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
