package httpapi

import (
	"iter"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
)

// position is what an answer reflects at least: everything that committed before an LSN, and all that had committed at a
// time.
type position struct {
	lsn    pglogrepl.LSN
	offset event.Offset
	at     time.Time
	asOf   string // the moment that a view is as of; "" when it follows the source
}

// PositionHeaders are those of every answer from a view.
type PositionHeaders struct {
	Position  string `header:"Lanternist-Position" doc:"The answer reflects at least every transaction that committed before this position. Usable as a token (after=)." example:"0/16B3748@7301234567890123456-1"`
	Offset    string `header:"Lanternist-Offset" doc:"The journal offset that the answer reflects at least."`
	Staleness string `header:"Lanternist-Staleness-Ms" doc:"How long ago, in milliseconds, the answer was known to reflect everything that the source had committed and sent." example:"4"`
	AsOf      string `header:"Lanternist-As-Of" doc:"Only of a view as of a moment: that moment, as it was asked for." example:"2026-01-31T12:00:00Z"`
}

func (p position) headers(epoch string) PositionHeaders {
	return PositionHeaders{
		Position:  Token{LSN: p.lsn, Epoch: epoch}.String(),
		Offset:    strconv.FormatUint(uint64(p.offset), 10),
		Staleness: strconv.FormatInt(max(0, time.Since(p.at).Milliseconds()), 10),
		AsOf:      p.asOf,
	}
}

func (h PositionHeaders) all() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		_ = yield("Lanternist-Position", h.Position) &&
			yield("Lanternist-Offset", h.Offset) &&
			yield("Lanternist-Staleness-Ms", h.Staleness) &&
			(h.AsOf == "" || yield("Lanternist-As-Of", h.AsOf))
	}
}

// nudgeAge is how old the last keepalive may be before an answer asks for another one, for the next answer's sake.
const nudgeAge = 250 * time.Millisecond

// position is how far a projector's documents have come, and since when. It is known to be the whole truth at the time of the
// last keepalive when it has reached the position that the keepalive named; else it is as old as what is not applied yet.
func (s *Server) position(p Projector, progress mirror.Progress) position {
	if f, ok := p.(*Frozen); ok {
		return f.position()
	}
	pos := position{lsn: progress.LSN, offset: progress.Offset}
	keepalive := s.source.Stats().Keepalive
	if time.Since(keepalive.Time) > nudgeAge {
		s.source.RequestKeepalive()
	}
	pos.at = keepalive.Time
	if pos.at.IsZero() {
		pos.at = s.started
	}
	if progress.LSN < keepalive.WALEnd {
		lag := time.Now().Add(-time.Duration(p.Status().LagSeconds * float64(time.Second)))
		if lag.Before(pos.at) {
			pos.at = lag
		}
	}
	return pos
}
