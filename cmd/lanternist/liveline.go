package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/lanternist/lanternist/examples/shop"
)

// liveLine shows once a second how fast changes come and how far the projectors are behind: on a terminal in one line
// that is written over, elsewhere every five seconds in a line of its own.
type liveLine struct {
	done, ended chan struct{}
}

func newLiveLine(w io.Writer, n *daemon, traffic *shop.Traffic) *liveLine {
	l := &liveLine{done: make(chan struct{}), ended: make(chan struct{})}
	go l.run(w, n, traffic)
	return l
}

func (l *liveLine) stop() {
	close(l.done)
	<-l.ended
}

func (l *liveLine) run(w io.Writer, n *daemon, traffic *shop.Traffic) {
	defer close(l.ended)
	every, before, after := 5*time.Second, "", "\n"
	if isTerminal(w) {
		every, before, after = time.Second, "\r\x1b[K", ""
		defer fmt.Fprintln(w)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last sample
	last.take(n, traffic)
	for {
		select {
		case <-l.done:
			return
		case <-tick.C:
		}
		var now sample
		now.take(n, traffic)
		seconds := now.at.Sub(last.at).Seconds()
		fmt.Fprintf(w, "%s%5.0f tx/s %6.0f changes/s | Elasticsearch %6.0f docs/s, behind %s | Redis %6.0f docs/s, behind %s%s", before,
			float64(now.transactions-last.transactions)/seconds, float64(now.events-last.events)/seconds,
			float64(now.search.written-last.search.written)/seconds, now.search.behind(),
			float64(now.cache.written-last.cache.written)/seconds, now.cache.behind(), after)
		last = now
	}
}

// sample is the state of everything at one moment.
type sample struct {
	at            time.Time
	transactions  int64
	events        uint64
	search, cache sinkSample
}

type sinkSample struct {
	written uint64
	lag     float64 // seconds, of the projector that is behind most
}

func (s *sample) take(n *daemon, traffic *shop.Traffic) {
	s.at = time.Now()
	s.transactions = traffic.Counts().Committed
	s.events = n.pump.Events()
	for _, r := range n.runners.list() {
		sink := &s.cache
		if r.search() != nil {
			sink = &s.search
		}
		status := r.Status()
		sink.written += status.Documents + status.Deletes
		sink.lag = max(sink.lag, status.LagSeconds)
	}
}

func (s sinkSample) behind() string {
	return fmt.Sprintf("%4.0f ms", s.lag*1000)
}

// freeAddress is the address, with another port when something listens there already.
func freeAddress(ctx context.Context, address string) string {
	var config net.ListenConfig
	for _, try := range []string{address, "127.0.0.1:0"} {
		l, err := config.Listen(ctx, "tcp", try)
		if err != nil {
			continue
		}
		free := l.Addr().String()
		if l.Close() == nil {
			return free
		}
	}
	return address
}
