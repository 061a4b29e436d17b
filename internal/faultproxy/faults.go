package faultproxy

import (
	"fmt"
	"time"
)

// Direction is one or both of the ways that bytes go.
type Direction int

// Directions. Stats is indexed by the first two.
const (
	ToServer Direction = iota
	ToClient
	Both
)

// each calls f with each single direction.
func (d Direction) each(f func(Direction)) {
	if d != ToClient {
		f(ToServer)
	}
	if d != ToServer {
		f(ToClient)
	}
}

// way is what happens to the bytes of one direction.
type way struct {
	delay  time.Duration
	rate   int // bytes per second; 0: no bound
	hold   bool
	vanish bool
	budget int64 // bytes until a connection is reset, while armed
	armed  bool
}

// Delay has each byte arrive d later than it was sent; 0 ends that.
func (p *Proxy) Delay(dir Direction, d time.Duration) {
	p.change(dir, func(w *way) { w.delay = d })
}

// Throttle lets at most so many bytes per second pass on each connection; 0 is no bound.
func (p *Proxy) Throttle(dir Direction, bytesPerSecond int) {
	p.change(dir, func(w *way) { w.rate = bytesPerSecond })
}

// Hold passes nothing on until Heal. Nothing is lost: what was sent meanwhile arrives then, as it does after a cut that was
// shorter than TCP's patience.
func (p *Proxy) Hold(dir Direction) { p.change(dir, func(w *way) { w.hold = true }) }

// Vanish loses what is sent, without a word to either side: connections become half-open. Heal lets new connections pass; those
// that lost something stay as they are until a side gives up.
func (p *Proxy) Vanish(dir Direction) { p.change(dir, func(w *way) { w.vanish = true }) }

// ResetAfter resets the connection that passes the n-th byte from now, right behind that byte. It happens once.
func (p *Proxy) ResetAfter(dir Direction, n int64) {
	p.change(dir, func(w *way) { w.budget, w.armed = n, true })
}

// Cut resets all connections. New ones are accepted. It returns how many there were.
func (p *Proxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut()
}

// Refuse resets all connections, and refuses new ones until Heal.
func (p *Proxy) Refuse() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
	return p.unlisten()
}

// cut is Cut for a caller that holds mu.
func (p *Proxy) cut() int {
	for l := range p.links {
		l.reset()
	}
	p.stats.Resets += len(p.links)
	return len(p.links)
}

// Heal ends all faults. Connections that lost bytes stay half-open.
func (p *Proxy) Heal() error {
	p.change(Both, func(w *way) { *w = way{} })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closed {
		return nil
	}
	listener, err := listenOn(p.address)
	if err != nil {
		return fmt.Errorf("fault proxy: heal: %w", err)
	}
	p.accepting(listener)
	return nil
}

func (p *Proxy) change(dir Direction, f func(*way)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dir.each(func(d Direction) { f(&p.ways[d]) })
	close(p.changed)
	p.changed = make(chan struct{})
}

// way is what happens to bytes in a direction now, and a channel that is closed when that changes.
func (p *Proxy) way(dir Direction) (way, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ways[dir], p.changed
}

// arrive counts n bytes that are about to arrive. It returns how many may, and whether the connection is reset behind them.
func (p *Proxy) arrive(dir Direction, n int) (may int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := &p.ways[dir]; w.armed {
		if int64(n) >= w.budget {
			n, cut = int(w.budget), true
			w.armed = false
			p.stats.Resets++
		} else {
			w.budget -= int64(n)
		}
	}
	p.stats.Bytes[dir] += int64(n)
	return n, cut
}

func (p *Proxy) lost(dir Direction, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Lost[dir] += int64(n)
}
