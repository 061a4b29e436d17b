package verify

import "github.com/lanternist/lanternist/internal/jsondiff"

// Result is what a comparison found.
type Result struct {
	Against Against `json:"against"`
	// LSN is the first point that documents were compared at.
	LSN   string       `json:"lsn"`
	Seed  uint64       `json:"seed,omitempty"` // of the sample, if it was one
	Sinks []SinkResult `json:"sinks"`
}

// Equal says that no document is left that is not as it should be.
func (r *Result) Equal() bool {
	for i := range r.Sinks {
		if r.Sinks[i].Left() > 0 {
			return false
		}
	}
	return true
}

// SinkResult is what was found in one sink. Each document counts once.
type SinkResult struct {
	Sink      string `json:"sink"`
	Compared  int64  `json:"compared"`  // rows of the root table, and documents without one, that were looked at
	Missing   int64  `json:"missing"`   // should be there
	Extra     int64  `json:"extra"`     // should not
	Different int64  `json:"different"` //
	Repaired  int64  `json:"repaired"`  // of those
	// Unsettled documents changed each time they were looked at.
	Unsettled int64 `json:"unsettled"`
	// Expired documents are composed anew when they are read; they were not looked at.
	Expired int64 `json:"expired"`
	// Uncomposable documents are dead letters: the definition yields an error for them.
	Uncomposable int64 `json:"uncomposable"`
	// Differences are the first that were found of those missing, extra or different, by id.
	Differences []Difference `json:"differences"`
}

// Left is how many documents are not as they should be, and were not repaired.
func (s *SinkResult) Left() int64 { return s.Missing + s.Extra + s.Different - s.Repaired }

// Kind is what is wrong with a document.
type Kind string

// The kinds of differences.
const (
	Missing   Kind = "missing"
	Extra     Kind = "extra"
	Different Kind = "different"
)

// Difference is a document that is not as it should be.
type Difference struct {
	ID       string  `json:"id"`
	Kind     Kind    `json:"kind"`
	Fields   []Field `json:"fields,omitempty"` // the first that differ, of a document of kind different
	Note     string  `json:"note,omitempty"`   // what is there, when it is no document
	Repaired bool    `json:"repaired"`
}

// Field is a value that is not as it should be.
type Field = jsondiff.Field

// Progress is how far a comparison is.
type Progress struct {
	Phase Phase `json:"phase"`
	Done  int64 `json:"done"`  // rows copied, or documents looked at, in the phase
	Total int64 `json:"total"` // about how many there are; 0 when it is not known
	// Suspects is how many documents were not as they should be when they were looked at last.
	Suspects int64 `json:"suspects"`
}

// Phase is what a comparison is doing.
type Phase string

// The phases, in order. Copying and waiting come again before documents are looked at again.
const (
	Copying   Phase = "copying"   // rows from the source
	Waiting   Phase = "waiting"   // for the projectors
	Comparing Phase = "comparing" // documents
	Listing   Phase = "listing"   // what the sinks hold
	Settling  Phase = "settling"  // looking again at documents that differed
	Repairing Phase = "repairing"
)
