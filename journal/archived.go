package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Archive holds entries that the engine may no longer have. What it answers is verbatim what was appended. It is safe for
// concurrent use.
type Archive interface {
	// Range returns what is archived. It does no I/O; an error says why it is not known yet.
	Range() (ArchiveRange, error)
	// Read returns the entry of a sequence, which nobody may change. It is ErrNotFound outside of the range, and a
	// CorruptError that names the file when the entry should be there and cannot be read.
	Read(ctx context.Context, sequence uint64) ([]byte, error)
	// Search returns the sequence of the first entry in the range of which holds is true, or the one after the last.
	// holds stays true once it is.
	Search(ctx context.Context, holds func(*Entry) bool) (uint64, error)
}

// ArchiveRange is what an archive has: every entry from the first to the last, if they can be read.
type ArchiveRange struct {
	First, Last uint64 // sequences, inclusive; 0 when nothing is archived
	Beginning   bool   // the first is the first that the journal ever had
}

// ErrArchiveAway means that something is not in the journal any more, and that the archive, which may have it, cannot be
// asked now. Trying again later may help.
var ErrArchiveAway = errors.New("archive cannot be asked")

// Attach gives the journal its past: what is not in the journal any more is read from the archive, without a seam. It is
// called before the journal has readers.
func (j *Journal) Attach(archive Archive) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.archive = archive
}

// Retained is the sequence of the first batch that is in the journal itself.
func (j *Journal) Retained() uint64 {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.first.sequence
}

// First is the sequence of the first batch that can be read: from the archive when it reaches the journal without a hole,
// else the first in the journal. While the archive cannot be asked it is the first in the journal: Retains tells the
// difference, and so does reading.
func (j *Journal) First() uint64 {
	if past, ok, err := j.past(); err == nil && ok {
		return past.First
	}
	return j.Retained()
}

// past is what the archive has of what is before the journal; false when that does not reach the journal.
func (j *Journal) past() (ArchiveRange, bool, error) {
	j.mu.RLock()
	archive, retained := j.archive, j.first.sequence
	j.mu.RUnlock()
	if archive == nil {
		return ArchiveRange{}, false, nil
	}
	has, err := archive.Range()
	if err != nil {
		return ArchiveRange{}, false, fmt.Errorf("%w: %w", ErrArchiveAway, err)
	}
	return has, has.First != 0 && has.First < retained && has.Last+1 >= retained, nil
}

// trimmed is the error of something before what can be read.
func (j *Journal) trimmed() error {
	past, reaches, err := j.past()
	retained := j.Retained()
	switch {
	case err != nil:
		return fmt.Errorf("%w; the first batch in the journal is %d", err, retained)
	case reaches:
		return &TrimmedError{First: past.First}
	case past.Last+1 < retained:
		return &TrimmedError{First: retained, ArchiveFirst: past.First, ArchiveLast: past.Last}
	}
	return &TrimmedError{First: retained}
}

// readArchived reads an entry that the journal itself no longer has.
func (j *Journal) readArchived(ctx context.Context, sequence uint64) (header, []byte, error) {
	has, err := j.archive.Range()
	if err != nil {
		return header{}, nil, fmt.Errorf("%w: %w", ErrArchiveAway, err)
	}
	if sequence < has.First || sequence > has.Last {
		return header{}, nil, j.trimmed()
	}
	entry, err := j.archive.Read(ctx, sequence)
	if err != nil {
		return header{}, nil, err
	}
	h, err := j.checkEntry(sequence, entry)
	if err != nil {
		return header{}, nil, &CorruptError{From: sequence, To: sequence, Cause: fmt.Errorf("archive: %w", err)}
	}
	j.mu.RLock()
	border := j.first
	j.mu.RUnlock()
	if sequence+1 == border.sequence && h.crc != border.previousCRC {
		return header{}, nil, &CorruptError{From: sequence, To: border.sequence, Cause: fmt.Errorf(
			"batch %d in the journal was appended after one with checksum %08x, the archive's batch %d has %08x",
			border.sequence, border.previousCRC, sequence, h.crc)}
	}
	return h, entry, nil
}

// isArchived says whether an entry is to be read from the archive.
func (j *Journal) isArchived(sequence uint64) bool {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.archive != nil && sequence < j.first.sequence
}

// searchArchived is search below what is in the journal.
func (j *Journal) searchArchived(ctx context.Context, from, to uint64, holds func(*header) bool) (uint64, error) {
	at, err := j.archive.Search(ctx, func(e *Entry) bool { return e.header.sequence >= from && holds(&e.header) })
	if err != nil {
		return 0, err
	}
	return min(max(at, from), to), nil
}

// Entry returns the bytes of a batch as they were appended, which nobody may change.
func (j *Journal) Entry(ctx context.Context, sequence uint64) ([]byte, error) {
	_, entry, err := j.readEntry(ctx, sequence)
	if err != nil {
		return nil, fmt.Errorf("read batch %d: %w", sequence, j.explain(ctx, sequence, err))
	}
	return entry, nil
}

// EntryHeader returns what a batch says before its parts.
func (j *Journal) EntryHeader(ctx context.Context, sequence uint64) (Entry, error) {
	h, err := j.readHeader(ctx, sequence)
	return Entry{h}, err
}

// Reaching returns the sequence of the first batch in the journal itself, from one on, that ends at a position or after it;
// the one after the last when there is none.
func (j *Journal) Reaching(ctx context.Context, from uint64, position uint64) (uint64, error) {
	j.mu.RLock()
	first, head := j.first.sequence, j.head.sequence
	j.mu.RUnlock()
	return j.search(ctx, max(from, first), head+1, func(h *header) bool { return h.end() >= position })
}

// Await returns a channel that is closed when the batches that were ever appended have that many bytes together
// (Head.Position), or when the journal is closed. forget is called when nobody waits any more.
func (j *Journal) Await(position uint64) (reached <-chan struct{}, forget func()) {
	w := &awaited{position, make(chan struct{})}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed || j.head.end() >= position {
		close(w.reached)
		return w.reached, func() {}
	}
	j.awaited = append(j.awaited, w)
	return w.reached, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.awaited = slices.DeleteFunc(j.awaited, func(other *awaited) bool { return other == w })
	}
}

// awaited is a position that somebody waits for.
type awaited struct {
	position uint64
	reached  chan struct{} // closed when it is reached, or the journal is closed
}

// reached wakes whoever waits for what has been reached, or everybody. The caller holds mu.
func (j *Journal) reached(all bool) {
	j.awaited = slices.DeleteFunc(j.awaited, func(w *awaited) bool {
		if !all && j.head.end() < w.position {
			return false
		}
		close(w.reached)
		return true
	})
}
