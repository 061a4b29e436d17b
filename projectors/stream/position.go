package stream

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
)

// Position is a place in the journal, named in one of several ways. The zero value is the beginning of what there is.
type Position struct {
	kind   positionKind
	offset event.Offset
	lsn    pglogrepl.LSN
	time   time.Time
}

type positionKind uint8

const (
	atBeginning positionKind = iota
	atEnd
	atOffset
	atLSN
	atTime
)

// Beginning is the first transaction that is held from its first event on.
func Beginning() Position { return Position{} }

// End is the journal's end, as it is when it is asked for.
func End() Position { return Position{kind: atEnd} }

// At is the transaction of the event of an offset. 0 is before the first event that there ever was.
func At(o event.Offset) Position { return Position{kind: atOffset, offset: o} }

// AtLSN is what commits at a position of the source.
func AtLSN(lsn pglogrepl.LSN) Position { return Position{kind: atLSN, lsn: lsn} }

// AtTime is what commits at a time, by the source's clock, in microseconds.
func AtTime(t time.Time) Position { return Position{kind: atTime, time: t.Truncate(time.Microsecond)} }

// ParsePosition reads an offset (53215233), a position of the source (0/16B3748), a time (2026-01-31T12:00:00Z), "beginning" or
// "end".
func ParsePosition(text string) (Position, error) {
	switch text {
	case "beginning":
		return Beginning(), nil
	case "end":
		return End(), nil
	}
	if n, err := strconv.ParseUint(text, 10, 63); err == nil {
		return At(event.Offset(n)), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return AtTime(t), nil
	}
	if lsn, ok := parseLSN(text); ok {
		return AtLSN(lsn), nil
	}
	return Position{}, fmt.Errorf("%q: want an offset such as 53215233, a position such as 0/16B3748, a time such as 2026-01-31T12:00:00Z, beginning or end", text)
}

func parseLSN(text string) (pglogrepl.LSN, bool) {
	high, low, ok := strings.Cut(text, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	return pglogrepl.LSN(h<<32 | l), ok && errHigh == nil && errLow == nil
}

// String is what ParsePosition reads.
func (p Position) String() string {
	switch p.kind {
	case atEnd:
		return "end"
	case atOffset:
		return strconv.FormatUint(uint64(p.offset), 10)
	case atLSN:
		return p.lsn.String()
	case atTime:
		return p.time.UTC().Format(time.RFC3339Nano)
	default:
		return "beginning"
	}
}
