package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// format is the version of manifests that this package writes.
const format = 1

// Manifest describes a copy of the mirror.
type Manifest struct {
	Format    int    `json:"format"`
	JournalID string `json:"journal_id"` // that the offset is of
	Epoch     string `json:"epoch"`      // of the source, when the copy was made
	// Offset is that of the last event applied: the events after it are what the copy lacks.
	Offset event.Offset `json:"offset"`
	// LSN says that everything captured that committed before it has been applied.
	LSN pglogrepl.LSN `json:"lsn"`
	// Last is the last transaction applied; nil when none was since the journal began.
	Last    *Transaction  `json:"last,omitempty"`
	Made    time.Time     `json:"made"`
	Tables  []Table       `json:"tables"`
	Schemas []*row.Schema `json:"schemas"` // all that rows may have been written with
	Files   []File        `json:"files"`

	name string // of the object, without folder
}

// Transaction is a transaction of the source.
type Transaction struct {
	CommitLSN  pglogrepl.LSN `json:"commit_lsn"`
	CommitTime time.Time     `json:"commit_time"` // by the source's clock
}

// Table is a table in a copy.
type Table struct {
	OID      uint32        `json:"oid"`
	Name     string        `json:"name"`
	Complete bool          `json:"complete"`  // all of its rows are there
	LoadedAt pglogrepl.LSN `json:"loaded_at"` // the newest consistent point of its first load: nothing is known of it before
	Rows     int64         `json:"rows"`      // about how many
}

// File is a file of a copy.
type File struct {
	Path   string `json:"path"` // in the mirror's folder, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Name names the copy: unique in its store, and in the order of offsets.
func (m *Manifest) Name() string { return strings.TrimSuffix(m.name, manifestSuffix) }

// Size is how much all files take, in bytes.
func (m *Manifest) Size() int64 {
	var size int64
	for _, f := range m.Files {
		size += f.Size
	}
	return size
}

// Table finds a table by its OID.
func (m *Manifest) Table(oid uint32) (Table, bool) {
	for _, t := range m.Tables {
		if t.OID == oid {
			return t, true
		}
	}
	return Table{}, false
}

// String names the moment that the copy is of.
func (m *Manifest) String() string {
	if m.Last == nil {
		return fmt.Sprintf("position %s, made at %s", m.LSN, m.Made.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("position %s, last commit at %s", m.LSN, m.Last.CommitTime.UTC().Format(time.RFC3339Nano))
}

const manifestSuffix = ".json"

// encode is the manifest's text, and the name that it is stored by.
func (m *Manifest) encode() (name string, text []byte, err error) {
	if text, err = json.Marshal(m); err != nil {
		return "", nil, fmt.Errorf("encode manifest: %w", err)
	}
	return fmt.Sprintf("%016x-%s%s", uint64(m.Offset), sumOf(text), manifestSuffix), text, nil
}

// sumOf is the part of a manifest's name that tells whether its text is what was written.
func sumOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// decode reads a manifest that is stored by a name.
func decode(name string, text []byte) (*Manifest, error) {
	_, sum, ok := strings.Cut(strings.TrimSuffix(name, manifestSuffix), "-")
	if !ok {
		return nil, errors.New("not the name of a manifest")
	}
	if got := sumOf(text); got != sum {
		return nil, fmt.Errorf("its checksum is %s, it was stored with %s", got, sum)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	m := &Manifest{name: name}
	if err := decoder.Decode(m); err != nil {
		return nil, fmt.Errorf("not a manifest: %w", err)
	}
	if m.Format != format {
		return nil, fmt.Errorf("format %d, this version reads %d", m.Format, format)
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) || len(f.SHA256) != 2*sha256.Size {
			return nil, fmt.Errorf("file %q is not one of a mirror", f.Path)
		}
	}
	return m, nil
}
