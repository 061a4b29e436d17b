package segments

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/lanternist/lanternist/journal"
)

// metaStore is raft-wal's metadata, looked over before the WAL trusts it: that no segment file is missing, that
// the end of the last one is a torn append and not damage, and that a segment that was closed just before a
// crash counts as closed.
type metaStore struct {
	metadb.BoltMetaDB
	segmentSize int
	storage     storage
	log         *slog.Logger
}

// CommitState implements types.MetaStore.
func (m *metaStore) CommitState(state types.PersistentState) error {
	return m.storage.Commit(func() error { return m.BoltMetaDB.CommitState(state) })
}

// Load implements types.MetaStore.
func (m *metaStore) Load(dir string) (types.PersistentState, error) {
	if err := syncMeta(dir, m.storage); err != nil {
		return types.PersistentState{}, err
	}
	state, err := m.load(dir)
	if err != nil || len(state.Segments) == 0 {
		return state, err
	}
	for _, info := range state.Segments {
		if err := checkFile(dir, info); err != nil {
			return state, err
		}
	}
	tail := &state.Segments[len(state.Segments)-1]
	if !tail.SealTime.IsZero() {
		return state, nil
	}
	end, err := inspectTail(dir, m.storage, *tail)
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil // the crash came before the file was made; the WAL makes it
	}
	if err != nil {
		return state, err
	}
	if end.indexStart == 0 {
		return state, nil
	}
	return m.rotate(state, end)
}

// load reads the metadata. The WAL removes segment files that it knows nothing of, so metadata that is gone or unreadable is
// an error as long as there is a segment file; else it is begun anew: a crash may have come while it was being made.
func (m *metaStore) load(dir string) (types.PersistentState, error) {
	path := filepath.Join(dir, metadb.FileName)
	files, err := segmentFiles(dir)
	if err != nil {
		return types.PersistentState{}, err
	}
	state, err := m.read(dir)
	if err != nil && len(files) == 0 && errors.Is(err, journal.ErrCorrupt) {
		if closing := m.Close(); closing != nil && !errors.Is(closing, metadb.ErrUnintialized) {
			return state, closing
		}
		if err := os.Remove(path); err != nil {
			return state, err
		}
		m.BoltMetaDB = metadb.BoltMetaDB{}
		state, err = m.read(dir)
	}
	if err == nil && len(state.Segments) == 0 && len(files) > 0 {
		err = fmt.Errorf("%w: %s knows of no segments, but there are %d, from batch %d on; nothing has been changed", journal.ErrCorrupt, path, len(files), files[0].base)
	}
	return state, err
}

// read reads the metadata. It may be a file in which nothing is where it should be, which makes its reader panic.
func (m *metaStore) read(dir string) (state types.PersistentState, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s cannot be read: %v", journal.ErrCorrupt, filepath.Join(dir, metadb.FileName), p)
		}
	}()
	state, err = m.BoltMetaDB.Load(dir)
	if err != nil && !errors.As(err, new(*fs.PathError)) {
		err = fmt.Errorf("%w: %w", journal.ErrCorrupt, err)
	}
	return state, err
}

// rotate finishes what a crash interrupted: the last segment has been closed with an index and synced, but the
// metadata still has it open. Left so, the WAL would refuse every append.
func (m *metaStore) rotate(state types.PersistentState, end tailEnd) (types.PersistentState, error) {
	tail := &state.Segments[len(state.Segments)-1]
	tail.SealTime, tail.MaxIndex, tail.IndexStart = time.Now(), end.last, end.indexStart
	state.Segments = append(state.Segments, types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: end.last + 1, MinIndex: end.last + 1, SizeLimit: uint32(m.segmentSize),
		Codec: wal.CodecBinaryV1, CreateTime: time.Now(),
	})
	state.NextSegmentID++
	if err := m.CommitState(state); err != nil {
		return state, fmt.Errorf("close segment: %w", err)
	}
	m.log.Info("journal segment closed after a crash", "last", end.last)
	return state, nil
}

// checkFile reports a closed segment whose file is gone as the range of entries that are gone with it.
func checkFile(dir string, info types.SegmentInfo) error {
	if info.SealTime.IsZero() {
		return nil
	}
	_, err := os.Stat(filepath.Join(dir, segment.FileName(info)))
	if errors.Is(err, fs.ErrNotExist) {
		return &journal.CorruptError{From: info.MinIndex, To: info.MaxIndex, Cause: err}
	}
	return err
}

// tailEnd is where the entries of the last segment end.
type tailEnd struct {
	last       uint64 // the last entry; the one before the segment's first when it has none
	indexStart uint64 // offset of the index when the segment has been closed, else 0
}

// inspectTail finds the end of the last segment as the WAL will, without changing anything, and makes sure that
// nothing that was acknowledged lies beyond it. The last append is written again and synced: the process before may have been
// killed before its sync, or ended because of it, and from now on the entry counts as durable.
func inspectTail(dir string, d storage, info types.SegmentInfo) (tailEnd, error) {
	if err := syncTail(dir, d, segment.FileName(info)); err != nil {
		return tailEnd{}, err
	}
	w, err := segment.NewFiler(dir, d).RecoverTail(info)
	if err != nil {
		return tailEnd{}, err
	}
	_, indexStart, err := w.Sealed()
	end := tailEnd{last: max(w.LastIndex(), info.BaseIndex-1), indexStart: indexStart}
	if err := errors.Join(err, w.Close()); err != nil {
		return tailEnd{}, err
	}
	return end, checkTail(filepath.Join(dir, segment.FileName(info)), end.last)
}

// checkTail looks for entries beyond the one that the WAL takes for the last. A crash leaves at most one, which
// was never acknowledged. More mean that something before them is damaged: the WAL would cut them all off.
func checkTail(path string, last uint64) error {
	highest := last
	err := scanMarks(path, func(sequence uint64) { highest = max(highest, sequence) })
	if err != nil {
		return err
	}
	if highest > last+1 {
		cause := fmt.Errorf("%s is damaged after entry %d, but holds entry %d; nothing has been changed", path, last, highest)
		return &journal.CorruptError{From: last + 1, To: highest, Cause: cause}
	}
	return nil
}

// scanMarks calls found for every mark in a segment file.
func scanMarks(path string, found func(sequence uint64)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for offset := int64(0); err == nil; {
		var n int
		n, err = file.ReadAt(buf, offset)
		findMarks(buf[:n], found)
		offset += int64(n - markSize + 1) // a mark may lie across the edge
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, file.Close())
}

// findMarks calls found for every mark that lies whole in b.
func findMarks(b []byte, found func(sequence uint64)) {
	for {
		i := bytes.Index(b, []byte(markMagic))
		if i < 0 {
			return
		}
		b = b[i:]
		if sequence, ok := readMark(b); ok {
			found(sequence)
		}
		b = b[1:]
	}
}

// segmentFile is a segment file and the first entry it was made for.
type segmentFile struct {
	path     string
	base, id uint64
}

// segmentFiles lists the segment files of a folder in order of their entries.
func segmentFiles(dir string) ([]segmentFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []segmentFile
	for _, e := range entries { // sorted by name, which begins with the base in twenty digits
		var f segmentFile
		if n, _ := fmt.Sscanf(e.Name(), "%020d-%016x.wal", &f.base, &f.id); n == 2 {
			f.path = filepath.Join(dir, e.Name())
			files = append(files, f)
		}
	}
	return files, nil
}
