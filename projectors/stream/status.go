package stream

import (
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
)

// Sink is the kind of sink that a stream is, in its status.
const Sink = "stream"

// Watermark is how far the projector is: every event up to the offset, and every transaction that committed before the LSN, is
// handled or parked. While the source is idle it follows the mirror, when there is one.
func (p *Projector) Watermark() mirror.Progress {
	mark := mirror.Progress{}
	if p.parts.Mirror != nil {
		mark, _ = p.parts.Mirror.Progress() // before the own position is looked at: the other one only grows
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at >= mark.Offset && p.state != projectors.StateStarting && p.at > 0 {
		return mirror.Progress{Offset: p.at, LSN: max(p.lsn, mark.LSN)}
	}
	return mirror.Progress{Offset: p.at, LSN: p.lsn}
}

// Status is the projector's state now. It does no I/O.
func (p *Projector) Status() projectors.Status {
	mark, head := p.Watermark(), p.parts.Journal.Head()
	s := projectors.Status{Projector: p.cfg.Name, Sink: Sink, Offset: mark.Offset, LSN: mark.LSN}
	if p.parts.Letters != nil {
		s.Parked = p.parts.Letters.Count(p.cfg.Name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.State, s.Events, s.Batches, s.Retries, s.Rate = p.state, p.events, p.batches, p.retries, p.rate.Read().Rate
	s.LagBytes = max(0, int64(head.EndLSN)-int64(s.LSN))
	if head.Offset > p.at {
		s.LagEvents = lagEvents(p.at, head.Offset)
		since := p.oldest
		if since.IsZero() {
			since = head.Time
		}
		s.LagSeconds = max(0, time.Since(since).Seconds())
	}
	switch {
	case p.state == projectors.StateStopped:
		if p.cause != nil {
			s.Error, s.Hint = p.cause.Error(), projectors.Hint(p.cause)
		}
	case p.retrying > 0:
		s.State, s.RetryingSince, s.Error = projectors.StateRetrying, p.since, p.reason.Error()
	}
	return s
}

// lagEvents is how many events there are between two offsets; across batches, at least.
func lagEvents(at, head event.Offset) int64 {
	if at.Sequence() == head.Sequence() {
		return int64(head - at)
	}
	return int64(head.Index()) + 1 + int64(head.Sequence()-at.Sequence()-1)
}

func (p *Projector) enter(state projectors.State, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.cause = state, cause
}

// reached notes that everything up to an offset, and before a position unless that is 0, is handled or parked.
func (p *Projector) reached(at event.Offset, lsn pglogrepl.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.lsn = at, max(p.lsn, lsn)
}

func (p *Projector) handled(events int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events += uint64(events)
	p.batches++
	p.rate.Observe(int64(p.events), 0)
}

func (p *Projector) handlingSince(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oldest = t
}

// checkpoint is how far the projector is.
func (p *Projector) checkpoint() Checkpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Checkpoint{Offset: p.at, LSN: p.lsn, JournalID: p.parts.Journal.Identity()}
}
