package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// loadMemory is what a first load may have resident, in bytes: more is an error.
const loadMemory = 500 << 20

// loadView is the view of the table that is loaded.
const loadView = "loaded"

// measureLoadSink measures the daemon from its start, with nothing, until every document of the table is in its sink and
// the view can be read.
func measureLoadSink(sink string) func(context.Context, *round) ([]sample, error) {
	name := "load-" + sink
	return func(ctx context.Context, r *round) (_ []sample, err error) {
		d, err := r.installView(ctx, sink, name, loadTable, viewOf(loadView, loadTable, sink))
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if err := d.start(ctx); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		s, err := d.until(ctx, func(s status) bool { return s.Ready })
		if err != nil {
			return nil, err
		}
		p := phase{Seconds: time.Since(began).Seconds(), Operations: r.options.loadRows}
		if p.usage, err = usageOf(d.cmd.Process.Pid); err != nil {
			return nil, err
		}
		if n := s.Projectors[0].Documents; n < r.options.loadRows {
			return nil, fmt.Errorf("%d documents were written, the table has %d rows", n, r.options.loadRows)
		}
		out := p.sample(name, "documents, from the daemon's start until the view can be read")
		out.Sink, out.Documents, out.Load = sink, s.Projectors[0].Documents, true
		return []sample{out}, p.bounded()
	}
}

// bounded refuses a load that took more memory than it may.
func (p phase) bounded() error {
	if p.PeakBytes > loadMemory {
		return fmt.Errorf("the load took %d MiB of memory, want at most %d", p.PeakBytes>>20, loadMemory>>20)
	}
	return nil
}
