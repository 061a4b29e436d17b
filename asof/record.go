package asof

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/mirror/checkpoint"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

// recordPrefix is where the control store has records, followed by the name.
const recordPrefix = "asof/"

// recordFormat is the version of records that this package writes.
const recordFormat = 1

// State is what a view as of a moment is.
type State string

// The states. One that is neither ready nor at work in this process was left by a crash, and is removed.
const (
	Making   State = "making"
	Ready    State = "ready"
	Dropping State = "dropping"
)

// Record is what is kept of a view as of a moment.
type Record struct {
	Format int    `json:"format"`
	Name   string `json:"name"`
	View   string `json:"view"` // that it was made of
	State  State  `json:"state"`

	// At is the moment that was asked for.
	At string `json:"at"`
	// Offset is that of the last event that the documents reflect, or where the checkpoint was when none came after it.
	Offset event.Offset `json:"offset"`
	// LSN is the promise: they reflect everything captured that committed before it.
	LSN pglogrepl.LSN `json:"lsn"`
	// Last is the last transaction that they reflect, when one is known.
	Last      *checkpoint.Transaction `json:"last,omitempty"`
	Epoch     string                  `json:"epoch"`
	JournalID string                  `json:"journal_id"`
	// Checkpoint is the name of the copy of the mirror that was begun with.
	Checkpoint string    `json:"checkpoint"`
	Made       time.Time `json:"made"`

	Sinks     []string `json:"sinks"` // in alphabetical order
	Documents int64    `json:"documents"`
	Parked    int64    `json:"parked"` // documents that a sink refused: dead letters

	Source  string   `json:"source"`  // text of the view's definition
	Schemas []uint32 `json:"schemas"` // that it was compiled against
}

func (r *Record) key() string { return recordPrefix + r.Name }

func (s *Service) save(ctx context.Context, r *Record) error {
	r.Format = recordFormat
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record of view %s: %w", r.Name, err)
	}
	if err := s.Control.Put(ctx, r.key(), text); err != nil {
		return fmt.Errorf("write record of view %s: %w", r.Name, err)
	}
	return nil
}

// Records reads what a control store has of views as of moments, by name.
func Records(ctx context.Context, store control.Store) ([]Record, error) {
	var records []Record
	err := store.List(ctx, recordPrefix, func(key string, value []byte) error {
		var r Record
		if err := json.Unmarshal(value, &r); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if r.Format != recordFormat || r.key() != key {
			return fmt.Errorf("%s: format %d of view %q, this version reads %d", key, r.Format, r.Name, recordFormat)
		}
		records = append(records, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read views as of moments: %w", err)
	}
	slices.SortFunc(records, func(a, b Record) int { return cmp.Compare(a.Name, b.Name) })
	return records, nil
}

// compile is the view that the record is of.
func (r *Record) compile(schemas mirror.Schemas) (*views.View, error) {
	var tables []*row.Schema
	for _, id := range r.Schemas {
		s, ok := schemas.Schema(id)
		if !ok {
			return nil, fmt.Errorf("view %s: schema %d of one of its tables is not known", r.Name, id)
		}
		tables = append(tables, s)
	}
	v, err := views.Fixed(r.Name, r.Source, tables)
	if err != nil {
		return nil, fmt.Errorf("view %s: %w", r.Name, err)
	}
	return v, nil
}
