package archive

import (
	"time"

	"github.com/lanternist/lanternist/journal"
)

// State is how an archiver is.
type State string

// The states of an archiver.
const (
	StateStarting State = "starting" // the archive has not been listed yet
	StateRunning  State = "running"  // files are written as they fill
	StateFailing  State = "failing"  // the last attempt failed, and is repeated
)

// Status is an archiver's state for status and metrics.
type Status struct {
	State    State
	First    uint64    // sequence of the first batch that can be read from the archive; 0 when there is none
	Last     uint64    // of the last one
	Files    int       // in the blob store
	Bytes    int64     // of the files
	Behind   uint64    // bytes of batches that are not archived yet
	Since    time.Time // when the oldest of them was appended; zero when there is none, or it is not known
	Wanted   uint64    // last sequence that somebody wants archived now; 0 when there is none
	Error    string    // of the last attempt, when it failed
	Failures int       // attempts that failed since the last that did not
	Missing  int       // files that should be there and are not

	Written      time.Time // when the last file was written by this archiver
	WrittenFiles uint64    // by this archiver
	WrittenBytes uint64    // of them
	WrittenRaw   uint64    // bytes of the entries in them

	FailuresTotal uint64 // attempts that failed
}

// Status is the archiver's state now. It does no I/O.
func (r *Archiver) Status() Status {
	head := r.journal.Head()
	r.mu.Lock()
	s := r.state
	if r.begun && head.Position > r.end {
		s.Behind = head.Position - r.end
	}
	s.Wanted = r.wanted
	r.mu.Unlock()
	l, err := r.archive.listed()
	if err != nil {
		return s
	}
	span := l.span()
	s.First, s.Last, s.Files, s.Bytes = span.First, span.Last, l.count, l.bytes
	if s.Wanted <= s.Last {
		s.Wanted = 0
	}
	for _, f := range l.files {
		if f.missing {
			s.Missing++
		}
	}
	return s
}

// Range is what the archive has.
func (r *Archiver) Range() (journal.ArchiveRange, error) { return r.archive.Range() }
