package cdc

import (
	"fmt"

	"github.com/jackc/pglogrepl"
)

// recognize says whether the server that answers is the one that the stream belongs to, with the same history: positions of
// another mean something else, and what was skipped because of its position would be lost.
func (r *Reader) recognize(now *State) error {
	at := r.assembler.position
	known := max(at.CommitLSN, at.EndLSN, pglogrepl.LSN(r.feedback.acknowledged.Load()))
	was := &r.source
	if was.SystemID == "" {
		*was = Source{SystemID: now.SystemID, Timeline: now.Timeline, DatabaseOID: now.DatabaseOID}
	}
	if was.PublicationOID == 0 && now.Publication != nil {
		was.PublicationOID = now.Publication.OID
	}
	switch {
	case was.SystemID != now.SystemID:
		return fmt.Errorf("system %s, was %s: %w", now.SystemID, was.SystemID, ErrSourceChanged)
	case was.DatabaseOID != 0 && was.DatabaseOID != now.DatabaseOID:
		return fmt.Errorf("database %s has OID %d, had %d: %w", now.Database, now.DatabaseOID, was.DatabaseOID, ErrSourceChanged)
	case was.Timeline != now.Timeline:
		left, ok := now.Left(was.Timeline)
		if !ok {
			return fmt.Errorf("timeline %d does not come from timeline %d: %w", now.Timeline, was.Timeline, ErrSourceChanged)
		}
		if at.CommitLSN >= left {
			return fmt.Errorf("timeline %d left timeline %d at %s, durable here is %s: %w", now.Timeline, was.Timeline, left, at.CommitLSN, ErrSourceChanged)
		}
		return fmt.Errorf("timeline %d, was %d until %s: %w", now.Timeline, was.Timeline, left, ErrPromoted)
	case at != (Start{}) && now.Flush < known:
		return fmt.Errorf("its log ends at %s, durable here is %s: %w", now.Flush, known, ErrSourceChanged)
	case now.Publication == nil:
		return fmt.Errorf("publication %s does not exist: %w", r.cfg.Publication, ErrPublicationChanged)
	case was.PublicationOID != now.Publication.OID:
		return fmt.Errorf("publication %s was dropped and created: %w", r.cfg.Publication, ErrPublicationChanged)
	}
	return nil
}
