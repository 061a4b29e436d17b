package mirror

import (
	"encoding/binary"
	"fmt"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/row"
)

// A row is stored as
//
//	┌──────────────────┬──────────────┬───────────────────────┐
//	│ LSN, 8 bytes BE  │ schema, 4 BE │ row.Row, to the end   │
//	└──────────────────┴──────────────┴───────────────────────┘
//
// LSN is the commit LSN of the transaction that wrote the row, or the consistent point of the snapshot that it
// was loaded from. Schema is the registry's ID of the version of the table that the row's columns are those of.
const recordHeader = 12

// stored is a row as the mirror has it. The row shares memory with what it was decoded from.
type stored struct {
	lsn    pglogrepl.LSN
	schema uint32
	row    row.Row
}

// put writes the record into dst, which has recordHeader bytes more than the row.
func (r stored) put(dst []byte) {
	binary.BigEndian.PutUint64(dst, uint64(r.lsn))
	binary.BigEndian.PutUint32(dst[8:], r.schema)
	copy(dst[recordHeader:], r.row)
}

// decodeRecord is the inverse of put.
func decodeRecord(b []byte) (stored, error) {
	if len(b) < recordHeader+2 {
		return stored{}, fmt.Errorf("%w: row of %d bytes", ErrCorrupt, len(b))
	}
	return stored{
		lsn:    pglogrepl.LSN(binary.BigEndian.Uint64(b)),
		schema: binary.BigEndian.Uint32(b[8:]),
		row:    row.Row(b[recordHeader:]),
	}, nil
}
