package segments

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/lanternist/lanternist/journal"
)

// ErrReadOnly is what a View answers to everything that would change the log.
var ErrReadOnly = errors.New("journal is open for reading only")

// viewBytes is how much of a segment a View reads ahead.
const viewBytes = 8 << 20

// View reads the segment files of a log that another process may be writing, without its lock and its metadata:
// to look inside. It implements journal.Log. Reading in order is fast. It may still show entries that were
// trimmed, as long as their segment is there, and it does not see the end of a last segment that is damaged.
type View struct {
	dir   string
	filer *segment.Filer

	mu    sync.Mutex
	ahead map[uint64]*raft.Log // entries read ahead, large ones as their claim checks
}

// OpenView opens a view on the log in dir.
func OpenView(dir string) (*View, error) {
	files, err := segmentFiles(dir)
	if err != nil {
		return nil, fmt.Errorf("open journal segments %s: %w", dir, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("open journal segments %s: %w: there are no segment files", dir, fs.ErrNotExist)
	}
	return &View{dir: dir, filer: segment.NewFiler(dir, walfs.New())}, nil
}

// Bounds implements journal.Log.
func (v *View) Bounds(ctx context.Context) (first, last uint64, err error) {
	files, err := segmentFiles(v.dir)
	if err != nil || len(files) == 0 {
		return 0, 0, err
	}
	// The last segment may be new and empty; then the one before has the last entry.
	for i := len(files) - 1; i >= 0 && last == 0; i-- {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		err := v.scan(files[i], 0, func(index uint64, _ []byte) (bool, error) {
			last = index
			return true, nil
		})
		if err != nil {
			return 0, 0, err
		}
	}
	if last == 0 {
		return 0, 0, nil
	}
	return files[0].base, last, nil
}

// scan calls visit for the entries of a segment that were committed, from one on.
func (v *View) scan(f segmentFile, from uint64, visit func(index uint64, raw []byte) (bool, error)) error {
	after := uint64(0)
	if from > 0 {
		after = from - 1
	}
	return v.filer.DumpSegment(f.base, f.id, after, 0, func(_ types.SegmentInfo, e types.LogEntry) (bool, error) {
		return visit(e.Index, e.Data)
	})
}

// Read implements journal.Log.
func (v *View) Read(ctx context.Context, sequence uint64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.ahead[sequence]; !ok {
		if err := v.readAhead(sequence); err != nil {
			return nil, err
		}
	}
	entry, ok := v.ahead[sequence]
	if !ok {
		return nil, journal.ErrNotFound
	}
	delete(v.ahead, sequence)
	if c, ok := readClaim(entry); ok {
		large, err := c.read(v.dir)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: the file of large entry %d: %w", journal.ErrCorrupt, sequence, err)
		}
		return large, err
	}
	return entry.Data, nil
}

// readAhead reads the entries from a sequence on, up to the end of its segment or viewBytes.
func (v *View) readAhead(sequence uint64) error {
	v.ahead = map[uint64]*raft.Log{}
	files, err := segmentFiles(v.dir)
	if err != nil {
		return err
	}
	at := -1
	for i := range files {
		if files[i].base <= sequence {
			at = i
		}
	}
	if at < 0 {
		return journal.ErrNotFound
	}
	bytes := 0
	return v.scan(files[at], sequence, func(index uint64, raw []byte) (bool, error) {
		entry, err := decode(raw)
		if err != nil && index > sequence {
			return false, nil // it is told when that entry is asked for
		}
		if err != nil {
			return false, fmt.Errorf("%w: entry %d: %w", journal.ErrCorrupt, index, err)
		}
		v.ahead[index] = entry
		bytes += len(entry.Data)
		return bytes < viewBytes, nil
	})
}

// decode decodes a raft log. Damaged bytes can make raft-wal's decoder panic.
func decode(raw []byte) (entry *raft.Log, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", wal.ErrCorrupt, p)
		}
	}()
	var l raft.Log
	if err := (&wal.BinaryCodec{}).Decode(raw, &l); err != nil {
		return nil, err
	}
	return &l, nil
}

// Append implements journal.Log.
func (v *View) Append(context.Context, uint64, []byte) error { return ErrReadOnly }

// Trim implements journal.Log.
func (v *View) Trim(context.Context, uint64) error { return ErrReadOnly }

// Size implements journal.Log.
func (v *View) Size(context.Context) (int64, error) { return sizeOf(v.dir) }

// MaxEntry implements journal.Log.
func (v *View) MaxEntry() int { return maxEntry }

// MaxInline implements journal.Log.
func (v *View) MaxInline() int { return inlineMax }

// Close implements journal.Log.
func (v *View) Close() error { return nil }
