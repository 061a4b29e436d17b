package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/mirror"
)

// Truth yields points in commit order at which it is known what documents should be.
type Truth interface {
	// At is a point that is not before any that was asked for earlier. The caller closes it. copied is told how many rows
	// were copied for it; it may be called from several goroutines, or never.
	At(ctx context.Context, copied func(rows int64)) (*Point, error)
}

// Point is the tables of a view at one point in commit order.
type Point struct {
	Snapshot *mirror.Snapshot
	// LSN is reached by a watermark that promises everything that the point has.
	LSN   pglogrepl.LSN
	close func() error
}

// Close lets the point go.
func (p *Point) Close() error { return p.close() }

// Mirror is the truth that the mirror knows.
type Mirror struct{ Mirror *mirror.Mirror }

// At implements Truth: the mirror as it is.
func (m Mirror) At(ctx context.Context, _ func(int64)) (*Point, error) {
	s, err := m.Mirror.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("take a snapshot: %w", err)
	}
	return &Point{Snapshot: s, LSN: s.Progress().LSN, close: s.Close}, nil
}
