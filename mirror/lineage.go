package mirror

import (
	"encoding/binary"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// lineage is where a row with unchanged values has been: the keys under which a snapshot may hold those values.
// A transaction is in a snapshot exactly when its commit LSN is less than the snapshot's consistent point S, so
// the row is found under the key of a stay when from < S ≤ until.
//
//	u ┆ table ┆ key → from, 8 bytes BE { ┆ from, 8 BE ┆ until, 8 BE ┆ length, 4 BE ┆ key }…
//
// The first from belongs to the stay under the present key, which has no end yet. It is 0 when the row was there
// before the mirror heard of it.
type lineage struct {
	from  pglogrepl.LSN
	stays []stay
}

// stay is a time that the row was stored under another key than now.
type stay struct {
	from, until pglogrepl.LSN
	key         string
}

// moved is the lineage after the row got another key, by a transaction that committed at lsn.
func (l lineage) moved(oldKey string, lsn pglogrepl.LSN) lineage {
	stays := append(l.stays[:len(l.stays):len(l.stays)], stay{from: l.from, until: lsn, key: oldKey})
	return lineage{from: lsn, stays: stays}
}

// stayedAt says whether a snapshot with consistent point s holds the row under key, which it has left.
func (l lineage) stayedAt(key string, s pglogrepl.LSN) bool {
	for _, st := range l.stays {
		if st.key == key && st.from < s && s <= st.until {
			return true
		}
	}
	return false
}

func (l lineage) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(l.from))
	for _, st := range l.stays {
		dst = binary.BigEndian.AppendUint64(dst, uint64(st.from))
		dst = binary.BigEndian.AppendUint64(dst, uint64(st.until))
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(st.key)))
		dst = append(dst, st.key...)
	}
	return dst
}

func decodeLineage(b []byte) (lineage, error) {
	if len(b) < 8 {
		return lineage{}, fmt.Errorf("%w: lineage of %d bytes", ErrCorrupt, len(b))
	}
	l := lineage{from: pglogrepl.LSN(binary.BigEndian.Uint64(b))}
	for b = b[8:]; len(b) > 0; {
		if len(b) < 20 || uint64(len(b)-20) < uint64(binary.BigEndian.Uint32(b[16:])) {
			return lineage{}, fmt.Errorf("%w: lineage ends inside a stay", ErrCorrupt)
		}
		n := 20 + int(binary.BigEndian.Uint32(b[16:]))
		l.stays = append(l.stays, stay{
			from:  pglogrepl.LSN(binary.BigEndian.Uint64(b)),
			until: pglogrepl.LSN(binary.BigEndian.Uint64(b[8:])),
			key:   string(b[20:n]),
		})
		b = b[n:]
	}
	return l, nil
}
