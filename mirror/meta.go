package mirror

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
)

// The mirror's own records, under m ┆ 0 ┆ name:
//
//	format    1 byte: the version of the keyspaces
//	identity  text: random, so that no other mirror is taken for this one
//	journal   text: the identity of the journal that the position is in
//	indexes   JSON: declared indexes, their numbers and whether they are built (index.go)
//	position  position, below
const (
	metaFormat   = "format"
	metaIdentity = "identity"
	metaJournal  = "journal"
	metaIndexes  = "indexes"
	metaPosition = "position"

	formatVersion = 1
)

// position says how far the mirror is.
//
//	┌────────────────┬───────┬─────────────────┬──────────────┬───────────────┐
//	│ offset, 8 BE   │ whole │ progress offset │ progress LSN │ applied LSN   │
//	└────────────────┴───────┴─────────────────┴──────────────┴───────────────┘
type position struct {
	offset   event.Offset  // of the last event applied
	whole    bool          // offset is the end of a transaction
	progress Progress      // at the last end of a transaction
	applied  pglogrepl.LSN // commit LSN of the newest transaction of which something was applied
}

const positionLen = 33

func (p position) encode() []byte {
	b := make([]byte, 0, positionLen)
	b = binary.BigEndian.AppendUint64(b, uint64(p.offset))
	whole := byte(0)
	if p.whole {
		whole = 1
	}
	b = append(b, whole)
	b = binary.BigEndian.AppendUint64(b, uint64(p.progress.Offset))
	b = binary.BigEndian.AppendUint64(b, uint64(p.progress.LSN))
	return binary.BigEndian.AppendUint64(b, uint64(p.applied))
}

func decodePosition(b []byte) (position, error) {
	if len(b) != positionLen {
		return position{}, fmt.Errorf("%w: position of %d bytes", ErrCorrupt, len(b))
	}
	return position{
		offset: event.Offset(binary.BigEndian.Uint64(b)),
		whole:  b[8] == 1,
		progress: Progress{
			Offset: event.Offset(binary.BigEndian.Uint64(b[9:])),
			LSN:    pglogrepl.LSN(binary.BigEndian.Uint64(b[17:])),
		},
		applied: pglogrepl.LSN(binary.BigEndian.Uint64(b[25:])),
	}, nil
}

// value reads one record; nil when it is not there.
func (m *Mirror) value(key []byte) ([]byte, error) {
	v, closer, err := m.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return append(make([]byte, 0, len(v)), v...), nil
}

// meta reads one of the mirror's own records; nil when it is not there.
func (m *Mirror) meta(name string) ([]byte, error) {
	v, err := m.value(metaKey(name))
	if err != nil {
		return nil, fmt.Errorf("read mirror %s: %w", name, err)
	}
	return v, nil
}

func metaKey(name string) []byte { return spaceKey(spaceMeta, 0, []byte(name)) }

// checkFormat refuses a folder of another format, and marks a new one.
func (m *Mirror) checkFormat() error {
	v, err := m.meta(metaFormat)
	if err != nil {
		return err
	}
	if v == nil {
		if err := m.db.Set(metaKey(metaFormat), []byte{formatVersion}, pebble.Sync); err != nil {
			return fmt.Errorf("write mirror format: %w", err)
		}
		return nil
	}
	if len(v) != 1 || v[0] != formatVersion {
		return fmt.Errorf("%w %d in %s: this version reads %d; remove the folder to load the tables again",
			ErrFormat, v, m.cfg.Dir, formatVersion)
	}
	return nil
}

// JournalID is the identity of the journal that Position is in, as SetJournalID left it; empty in a new mirror.
func (m *Mirror) JournalID() (string, error) {
	v, err := m.meta(metaJournal)
	return string(v), err
}

// SetJournalID stores the identity of the journal, durably.
func (m *Mirror) SetJournalID(id string) error {
	if err := m.db.Set(metaKey(metaJournal), []byte(id), pebble.Sync); err != nil {
		return fmt.Errorf("write mirror journal identity: %w", err)
	}
	return nil
}

// Identity is the mirror's own, made when the mirror is, or by the first version that knows of it.
func (m *Mirror) Identity() (string, error) {
	v, err := m.meta(metaIdentity)
	if err != nil || v != nil {
		return string(v), err
	}
	id := rand.Text()
	if err := m.db.Set(metaKey(metaIdentity), []byte(id), pebble.Sync); err != nil {
		return "", fmt.Errorf("write mirror identity: %w", err)
	}
	return id, nil
}

// setJSON stages v as a JSON record.
func setJSON(kv *pebble.Batch, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return kv.Set(key, b, nil)
}
