// Package identity keeps on record what belongs together (the source with its timeline, slot and publication, the journal, the
// mirror, and the deployment as sinks know it) and says what is not as it was: each case told apart, with the positions
// that are concerned, and the command to run next.
//
// Compare is arithmetic: it touches nothing. Reading what there is is left to the parts (cdc.Look, journal, mirror), and doing
// something about it to the daemon.
//
// Invariants: a record is written only after everything in it is durable, so that what is behind its record has lost something;
// a finding that is not healed by itself stops the start; and no new slot is made while there is a record, except for a gap that
// somebody accepted.
package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
)

// Where the record is kept, and where versions before it kept the source's name.
const (
	keyRecord = "identity/record"
	keyEarly  = "identity/source"
)

// format is the version of the record.
const format = 1

// Record is what belonged together when it was written.
type Record struct {
	Format  int     `json:"format"`
	Source  Source  `json:"source"`
	Slot    Slot    `json:"slot"`
	Journal Journal `json:"journal"`
	Mirror  string  `json:"mirror"` // identity
	// Epochs are earlier timelines of the source's history, each with the position where it was left: "<system>-<timeline>".
	Epochs map[string]pglogrepl.LSN `json:"epochs,omitempty"`
	// Gap is the offset of the last gap that was accepted; what is older in a sink is built anew.
	Gap event.Offset `json:"gap,omitempty"`
	// Deployments are the names under which sinks may know this one, the present one first.
	Deployments []string `json:"deployments"`
	// Generations are those that were live in the sinks, by projector: "order_summary.search" → "g3 made 2026-…".
	Generations map[string]string `json:"generations,omitempty"`
	Written     time.Time         `json:"written"`
}

// Source names a database and its history.
type Source struct {
	SystemID    string `json:"system_id"`
	Timeline    int32  `json:"timeline"`
	Database    string `json:"database"`
	DatabaseOID uint32 `json:"database_oid"`

	Publication      string `json:"publication"`
	PublicationOID   uint32 `json:"publication_oid"`
	PublicationOwner string `json:"publication_owner"`
}

// Epoch is how tokens and generations name the source's history.
func (s *Source) Epoch() string { return fmt.Sprintf("%s-%d", s.SystemID, s.Timeline) }

// Slot tells a replication slot from another of its name.
type Slot struct {
	Name    string        `json:"name"`
	Created pglogrepl.LSN `json:"created"` // the first position that it could be read from; 0 when it was there before us
	Decoded int64         `json:"decoded"` // see cdc.Slot; -1 when not known
}

// Journal tells a journal from a copy of itself that is older.
type Journal struct {
	ID   string       `json:"id"`
	Head event.Offset `json:"head"` // durable when the record was written
}

// Read reads the record; nil when there is none. early says that there is none because an older version did not write one, and
// names the source that it knew.
func Read(ctx context.Context, store control.Store) (r *Record, early string, err error) {
	text, ok, err := store.Get(ctx, keyRecord)
	if err != nil {
		return nil, "", fmt.Errorf("read identity: %w", err)
	}
	if !ok {
		text, _, err := store.Get(ctx, keyEarly)
		if err != nil {
			return nil, "", fmt.Errorf("read identity: %w", err)
		}
		return nil, string(text), nil
	}
	r = &Record{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, "", fmt.Errorf("read identity: %w", err)
	}
	if r.Format > format {
		return nil, "", fmt.Errorf("read identity: format %d, this version reads %d: run the version that wrote it", r.Format, format)
	}
	return r, "", nil
}

// Write writes the record, durably.
func (r *Record) Write(ctx context.Context, store control.Store) error {
	r.Format, r.Written = format, time.Now().UTC().Truncate(time.Second)
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	if err := store.Put(ctx, keyRecord, text); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	// Versions before the record know the source by this.
	if err := store.Put(ctx, keyEarly, []byte(r.Source.SystemID+"/"+r.Source.Database)); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

// Deployment is the name by which sinks know who writes to them: no two deployments can read one slot.
func Deployment(s *Source, slot string) string { return s.SystemID + "/" + s.Database + "/" + slot }

// Take notes the source as it is now. A timeline that was left is remembered, with where.
func (r *Record) Take(now *cdc.State) {
	if was := r.Source; was.SystemID == now.SystemID && was.Timeline != 0 && was.Timeline != now.Timeline {
		if left, ok := now.Left(was.Timeline); ok {
			if r.Epochs == nil {
				r.Epochs = map[string]pglogrepl.LSN{}
			}
			r.Epochs[was.Epoch()] = left
			for epoch, until := range r.Epochs {
				r.Epochs[epoch] = min(until, left)
			}
		}
	}
	r.Source.SystemID, r.Source.Timeline = now.SystemID, now.Timeline
	r.Source.Database, r.Source.DatabaseOID = now.Database, now.DatabaseOID
	if p := now.Publication; p != nil {
		r.Source.PublicationOID, r.Source.PublicationOwner = p.OID, p.Owner
	}
	if now.Slot != nil {
		r.Slot.Name, r.Slot.Decoded = now.Slot.Name, now.Slot.Decoded
	}
	name := Deployment(&r.Source, r.Slot.Name)
	r.Deployments = slices.DeleteFunc(r.Deployments, func(other string) bool { return other == name })
	r.Deployments = append([]string{name}, r.Deployments...)
}
