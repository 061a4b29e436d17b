package asof

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
)

// Moment is a time or a position.
type Moment struct {
	LSN   pglogrepl.LSN // 0: it is a time
	Time  time.Time
	Epoch string // of the position, "" when it was not said
}

// ParseMoment reads a position (0/16B3748, or with its epoch as the API answers it: 0/16B3748@7301234567890123456-1), or
// a time (2026-01-31T12:00:00Z).
func ParseMoment(text string) (Moment, error) {
	position, epoch, _ := strings.Cut(text, "@")
	if strings.Contains(position, "/") {
		lsn, err := pglogrepl.ParseLSN(position)
		if err == nil && lsn != 0 {
			return Moment{LSN: lsn, Epoch: epoch}, nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07"} {
		if t, err := time.Parse(layout, text); err == nil {
			return Moment{Time: t.UTC()}, nil
		}
	}
	return Moment{}, fmt.Errorf("%q is neither a time with its zone, such as 2026-01-31T12:00:00Z, nor a position, such as 0/16B3748", text)
}

// String is the moment as ParseMoment reads it.
func (m Moment) String() string {
	switch {
	case m.LSN == 0:
		return m.Time.Format(time.RFC3339Nano)
	case m.Epoch != "":
		return m.LSN.String() + "@" + m.Epoch
	}
	return m.LSN.String()
}
