package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/journal/archive"
)

// Archiver is what the API needs of an *archive.Archiver.
type Archiver interface {
	// Request asks for everything to be archived that is in the journal now.
	Request() uint64
	Status() archive.Status
}

// ArchiveStatus is how far the journal's archive is.
type ArchiveStatus struct {
	State      archive.State `json:"state" enum:"starting,running,failing"`
	FirstBatch uint64        `json:"first_batch" doc:"Sequence of the first batch archived; 0 when there is none."`
	LastBatch  uint64        `json:"last_batch" doc:"Of the last one."`
	Files      int           `json:"files"`
	Bytes      int64         `json:"bytes" doc:"Of the files."`
	Missing    int           `json:"missing_files,omitempty" doc:"Files that should be there and are not."`
	Behind     uint64        `json:"behind_bytes" doc:"Of batches that are not archived yet; they stay in the journal."`
	Since      time.Time     `json:"behind_since,omitzero" doc:"When the oldest of them was appended."`
	Wanted     uint64        `json:"wanted_batch,omitempty" doc:"The last batch that somebody wants archived at once."`
	Written    time.Time     `json:"written,omitzero" doc:"When the last file was written."`
	Error      string        `json:"error,omitempty" doc:"Of the last attempt, when it failed. It is repeated."`
	Failures   int           `json:"failures,omitempty" doc:"Attempts that failed since the last that did not."`
}

// ArchiveStatusOf is an archiver's status as the API tells it.
func ArchiveStatusOf(s archive.Status) ArchiveStatus {
	return ArchiveStatus{
		State: s.State, FirstBatch: s.First, LastBatch: s.Last, Files: s.Files, Bytes: s.Bytes, Missing: s.Missing, Behind: s.Behind,
		Since: s.Since.UTC(), Wanted: s.Wanted, Written: s.Written.UTC(), Error: s.Error, Failures: s.Failures,
	}
}

type archiveOutput struct {
	Location string `header:"Location" doc:"Where to ask how far it is."`
	Body     ArchiveStatus
}

func (s *Server) registerArchive(api huma.API) {
	const path = "/v1/journal/archive"
	start := get("archive-journal", path, "operation", "Archive everything up to the journal's end now", 501)
	start.Method, start.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, start, func(context.Context, *struct{}) (*archiveOutput, error) {
		if s.archiver == nil {
			return nil, errNoArchive()
		}
		wanted := s.archiver.Request()
		out := &archiveOutput{Location: path, Body: ArchiveStatusOf(s.archiver.Status())}
		out.Body.Wanted = wanted // also when it is archived already
		return out, nil
	})
	huma.Register(api, get("get-archive", path, "operation", "How far the journal's archive is", 501), func(context.Context, *struct{}) (*archiveOutput, error) {
		if s.archiver == nil {
			return nil, errNoArchive()
		}
		return &archiveOutput{Location: path, Body: ArchiveStatusOf(s.archiver.Status())}, nil
	})
}

func errNoArchive() *Problem {
	return problem(http.StatusNotImplemented, "the daemon was started without an archive")
}
