package httpapi

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/deadletter/alert"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/disk"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// Status is the body of /v1/status.
type Status struct {
	Version    string            `json:"version"`
	Epoch      string            `json:"epoch" doc:"The source's system identifier and timeline."`
	Started    time.Time         `json:"started"`
	Ready      bool              `json:"ready"`
	Source     SourceStatus      `json:"source"`
	Journal    JournalStatus     `json:"journal"`
	Mirror     MirrorStatus      `json:"mirror"`
	Load       LoadStatus        `json:"load"`
	Projectors []ProjectorStatus `json:"projectors" doc:"Ordered by name."`
	// Sinks is empty when nobody tells.
	Sinks  []projectors.SinkStatus `json:"sinks" doc:"What the projectors of each sink share: circuit, memory, size of writes."`
	Jobs   []Job                   `json:"jobs" doc:"Long work, in the order in which it began. See /v1/jobs."`
	Frozen []FrozenStatus          `json:"frozen" doc:"Views as of moments."`
	// DeadLetters are those that there are.
	DeadLetters []deadletter.Depth `json:"dead_letters" doc:"How many there are, and since when, by projector and class."`
	// Alert is absent when nobody is told.
	Alert *AlertStatus `json:"dead_letters_alert,omitempty" doc:"What the webhook for dead letters was told."`
	// Checkpoints is absent without an archive.
	Checkpoints *CheckpointsStatus `json:"checkpoints,omitempty" doc:"Copies of the mirror."`
	Waiting     int                `json:"waiting" doc:"Requests that wait for a token."`
	// Disks is empty as a rule.
	Disks []disk.Waiting `json:"disks" doc:"Stores that wait for room on their disk, or for a file descriptor: the stream stands still until there is some, reads go on."`
}

// AlertStatus is what the webhook for dead letters was told.
type AlertStatus alert.Status

// SourceStatus is how the daemon and the source's slot stand.
type SourceStatus struct {
	Connected    bool      `json:"connected"`
	Received     string    `json:"received" doc:"The highest position received."`
	WALEnd       string    `json:"wal_end" doc:"The source's position as last named by it."`
	Acknowledged string    `json:"acknowledged" doc:"The position up to which the source need not keep its log."`
	LagBytes     uint64    `json:"lag_bytes" doc:"From acknowledged to wal_end."`
	Reconnects   uint64    `json:"reconnects"`
	Heard        time.Time `json:"heard,omitzero" doc:"When the last keepalive came."`
	// Slot is absent until the source has been asked.
	Slot *SlotStatus `json:"slot,omitempty" doc:"What the source keeps for the slot, and which open transaction is the reason."`
}

// JournalStatus is what the journal holds.
type JournalStatus struct {
	Identity string       `json:"identity"`
	First    event.Offset `json:"first" doc:"The oldest offset in the journal itself; its archive may have older ones."`
	Head     event.Offset `json:"head" doc:"The newest."`
	LSN      string       `json:"lsn" doc:"Everything committed before it is in the journal."`
	Time     time.Time    `json:"time,omitzero" doc:"When the last batch was appended."`
	// Archive is nil when the journal has none.
	Archive *ArchiveStatus `json:"archive,omitempty" doc:"How far the journal's archive is, when it has one."`
}

// MirrorStatus is how far the mirror is.
type MirrorStatus struct {
	Offset event.Offset `json:"offset"`
	LSN    string       `json:"lsn"`
}

// ProjectorStatus is a projector's status with its position as Postgres prints it.
type ProjectorStatus struct {
	projectors.Status
	LSN string `json:"lsn"`
}

type statusOutput struct {
	Body Status
}

type viewsOutput struct {
	Body viewsBody
}

type viewsBody struct {
	Views []viewEntry `json:"views"`
}

type viewEntry struct {
	Name    string        `json:"name"`
	Hash    string        `json:"hash" doc:"Changes with the definition."`
	Root    string        `json:"root" doc:"The table that has a row for each document."`
	Sinks   []string      `json:"sinks"`
	Lookups [][]string    `json:"lookups,omitempty" doc:"The fields of each lookup."`
	Fields  []fieldEntry  `json:"fields"`
	AsOf    *FrozenStatus `json:"as_of,omitempty" doc:"Of a view as of a moment: which one."`
}

type fieldEntry struct {
	Path string `json:"path"`
	Type string `json:"type" doc:"The Postgres type, or object."`
	Many bool   `json:"many,omitempty" doc:"A list."`
}

func (s *Server) registerStatus(api huma.API) {
	huma.Register(api, get("get-status", "/v1/status", "operation", "Where everything stands"), func(context.Context, *struct{}) (*statusOutput, error) {
		return &statusOutput{Body: s.Status()}, nil
	})
}

func (s *Server) registerViews(api huma.API) {
	huma.Register(api, get("list-views", "/v1/views", "views", "List the views"), func(context.Context, *struct{}) (*viewsOutput, error) {
		out := &viewsOutput{Body: viewsBody{Views: []viewEntry{}}}
		for _, v := range s.served.Load().all() {
			out.Body.Views = append(out.Body.Views, entryOf(v))
		}
		return out, nil
	})
}

func entryOf(v *View) viewEntry {
	e := viewEntry{Name: v.name(), Hash: v.Definition.Hash(), Root: v.Definition.Root().QualifiedName(), Fields: []fieldEntry{}}
	if v.Cache != nil {
		e.Sinks = append(e.Sinks, "cache")
		for _, l := range v.Definition.Cache().Lookups {
			e.Lookups = append(e.Lookups, l.Fields)
		}
	}
	if v.Search != nil {
		e.Sinks = append(e.Sinks, "search")
	}
	if f := v.frozen(); f != nil {
		status := frozenStatus(f.record)
		e.AsOf = &status
	}
	e.Fields = appendFields(e.Fields, v.Definition.Fields())
	return e
}

func appendFields(dst []fieldEntry, fields []views.Field) []fieldEntry {
	for _, f := range fields {
		entry := fieldEntry{Path: f.Path, Type: f.Type.Name, Many: f.Many}
		if len(f.Children) > 0 {
			entry.Type = "object"
		}
		dst = appendFields(append(dst, entry), f.Children)
	}
	return dst
}

// Status is where everything stands now. It does no I/O.
func (s *Server) Status() Status {
	stats, head := s.source.Stats(), s.journal.Head()
	progress, _ := s.mirror.Progress()
	status := Status{
		Version: s.version(), Epoch: s.cfg.Epoch, Started: s.started.UTC(), Waiting: len(s.waiters),
		Source: SourceStatus{
			Connected: stats.Connected, Received: stats.Received.String(), WALEnd: stats.WALEnd.String(),
			Acknowledged: stats.Acknowledged.String(), LagBytes: stats.LagBytes, Reconnects: stats.Reconnects, Heard: stats.Keepalive.Time,
			Slot: s.slot(),
		},
		Journal: JournalStatus{
			Identity: s.journal.Identity(), First: event.NewOffset(s.journal.Retained(), 0), Head: head.Offset,
			LSN: head.EndLSN.String(), Time: head.Time,
		},
		Mirror: MirrorStatus{Offset: progress.Offset, LSN: progress.LSN.String()},
		Frozen: s.frozenViews(), Checkpoints: s.checkpoints(), Disks: s.disks(),
	}
	if s.archiver != nil {
		archived := ArchiveStatusOf(s.archiver.Status())
		status.Journal.Archive = &archived
	}
	if s.load != nil {
		status.Load = s.load()
	}
	status.Sinks = []projectors.SinkStatus{}
	if s.sinks != nil {
		status.Sinks = s.sinks()
	}
	status.Jobs = s.Jobs()
	if r := s.watch.reading(kindLoad, loadSubject); status.Load.Loading {
		status.Load.Percent, status.Load.Rate, status.Load.Left = r.Percent, r.Rate, r.Left
	}
	status.Projectors = s.projectorStatuses()
	status.Ready = len(notReady(s.asked(status.Projectors))) == 0
	status.DeadLetters = s.deadLetters()
	if s.alert != nil {
		told := AlertStatus(s.alert.Status())
		status.Alert = &told
	}
	return status
}

// deadLettersTimeout bounds looking for the oldest ones.
const deadLettersTimeout = 5 * time.Second

func (s *Server) deadLetters() []deadletter.Depth {
	ctx, cancel := context.WithTimeout(context.Background(), deadLettersTimeout)
	defer cancel()
	depths, err := s.letters.Depths(ctx)
	if err != nil {
		s.log.Error("dead letters not counted", "error", err)
	}
	return append([]deadletter.Depth{}, depths...)
}
