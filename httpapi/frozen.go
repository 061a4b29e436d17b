package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lanternist/lanternist/asof"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/views"
)

// FrozenStatus tells of a view as of a moment.
type FrozenStatus struct {
	Name      string       `json:"name"`
	View      string       `json:"view" doc:"The view that it was made of."`
	At        string       `json:"at" doc:"The moment that was asked for: a time or a position."`
	LSN       string       `json:"lsn" doc:"It reflects everything that committed before this position, and nothing that committed after the moment."`
	Offset    event.Offset `json:"offset" doc:"Of the last event that it reflects."`
	Committed time.Time    `json:"committed,omitzero" doc:"When the last transaction that it reflects committed, by the source's clock."`
	Epoch     string       `json:"epoch"`
	Made      time.Time    `json:"made"`
	Sinks     []string     `json:"sinks"`
	Documents int64        `json:"documents"`
	Parked    int64        `json:"parked" doc:"Documents that a sink refused: dead letters."`
}

// FrozenStatusOf tells of a view.
func FrozenStatusOf(v *asof.View) FrozenStatus { return frozenStatus(&v.Record) }

func frozenStatus(r *asof.Record) FrozenStatus {
	s := FrozenStatus{
		Name: r.Name, View: r.View, At: r.At, LSN: r.LSN.String(), Offset: r.Offset, Epoch: r.Epoch, Made: r.Made,
		Sinks: slices.Clone(r.Sinks), Documents: r.Documents, Parked: r.Parked,
	}
	if r.Last != nil {
		s.Committed = r.Last.CommitTime
	}
	return s
}

// Frozen stands for the projector of a view that does not change any more: where it is, it stays.
type Frozen struct {
	record *asof.Record
	sink   string
	never  chan struct{}
}

// NewFrozen is a view as of a moment, as readers see it.
func NewFrozen(v *asof.View) (*View, error) {
	view := &View{Definition: v.Definition}
	for sink, store := range v.Stores {
		p := &Frozen{record: &v.Record, sink: sink, never: make(chan struct{})}
		switch store := store.(type) {
		case *cache.Store:
			view.Cache = &CacheSink{Documents: cache.NewReader(store, nothing), Projector: p}
		case *search.Store:
			view.Search = &SearchSink{Documents: store, Projector: p}
		default:
			return nil, fmt.Errorf("view %s: sink %s cannot be read", v.Name, sink)
		}
	}
	return view, nil
}

// nothing is what is composed of documents that the cache does not hold: all that there are were written.
func nothing(_ context.Context, ids []string) ([]views.Document, event.Offset, error) {
	return make([]views.Document, len(ids)), 0, nil
}

// frozen says what a view is as of, or nil when it follows the source.
func (v *View) frozen() *Frozen {
	for _, p := range v.projectors() {
		if f, ok := p.(*Frozen); ok {
			return f
		}
	}
	return nil
}

// Watermark implements Projector.
func (f *Frozen) Watermark() (mirror.Progress, <-chan struct{}) {
	return mirror.Progress{Offset: f.record.Offset, LSN: f.record.LSN}, f.never
}

// Status implements Projector.
func (f *Frozen) Status() projectors.Status {
	return projectors.Status{
		Projector: asof.ProjectorName(f.record.Name, f.sink), View: f.record.Name, Sink: f.sink, Generation: 1, State: projectors.StateFrozen,
		Offset: f.record.Offset, LSN: f.record.LSN, Parked: int(f.record.Parked),
	}
}

// Recheck implements Projector. There is nothing that it could do about a sink that has lost it.
func (f *Frozen) Recheck() {}

var errFrozen = errors.New("the view is as of a moment")

// Rebuild implements Projector.
func (f *Frozen) Rebuild(context.Context, projectors.Progress) error { return errFrozen }

// Rollback implements Projector.
func (f *Frozen) Rollback(context.Context, projectors.Progress) error { return errFrozen }

// Retire implements Projector.
func (f *Frozen) Retire(context.Context, projectors.Progress) error { return errFrozen }

// Replay implements Projector.
func (f *Frozen) Replay(context.Context, projectors.ReplayRange, func(projectors.ReplayResult)) (projectors.ReplayResult, error) {
	return projectors.ReplayResult{}, errFrozen
}

// refusal is the problem of what can only be done with a view that follows the source.
func (f *Frozen) refusal(what string) *Problem {
	return problem(http.StatusConflict, "view %s is %s as of %s: it cannot be %s; make it anew under another name with: lanternist rebuild %s --as-of %s --into NAME",
		f.record.Name, f.record.View, f.record.At, what, f.record.View, f.record.At)
}

// position is what all of its answers reflect.
func (f *Frozen) position() position {
	pos := position{lsn: f.record.LSN, offset: f.record.Offset, at: f.record.Made, asOf: f.record.At}
	if f.record.Last != nil {
		pos.at = f.record.Last.CommitTime
	}
	if m, err := asof.ParseMoment(f.record.At); err == nil && m.LSN == 0 {
		pos.at = m.Time
	}
	return pos
}

// reachFrozen says at once whether a view as of a moment reflects what a request asks for: it never will later.
func (s *Server) reachFrozen(ctx context.Context, f *Frozen, fresh Freshness, minVersion event.Offset) (position, error) {
	pos := f.position()
	if minVersion > pos.offset {
		return pos, s.tooOld(f, pos, fmt.Sprintf("version %d", minVersion))
	}
	if fresh.After == "" {
		return pos, nil
	}
	token, err := s.token(fresh.After)
	if err != nil {
		return pos, err
	}
	if token.XID != 0 {
		if outcome, _, err := s.transactions.resolve(ctx, token.XID); err == nil && outcome == InProgress {
			return pos, s.tooOld(f, pos, token.String())
		}
	}
	lsn, err := s.resolve(ctx, f, token)
	if err != nil {
		return pos, err
	}
	if lsn > pos.lsn {
		return pos, s.tooOld(f, pos, fresh.After)
	}
	return pos, nil
}

func (s *Server) tooOld(f *Frozen, pos position, wanted string) *Problem {
	p := problem(http.StatusConflict, "view %s is %s as of %s and will never reflect %s; ask view %s", f.record.Name, f.record.View, f.record.At, wanted, f.record.View)
	p.Wanted, p.Reached = wanted, Token{LSN: pos.lsn, Epoch: f.record.Epoch}.String()
	return p.at(s, pos)
}

// following finds a view that follows the source. what is said of one that does not: it cannot be so.
func (s *Server) following(name, what string) (*View, error) {
	v, err := s.view(name)
	if err != nil {
		return nil, err
	}
	if f := v.frozen(); f != nil {
		return nil, f.refusal(what)
	}
	return v, nil
}

// frozenViews tells of all views as of moments that are served.
func (s *Server) frozenViews() []FrozenStatus {
	all := []FrozenStatus{}
	for _, v := range s.served.Load().all() {
		if f := v.frozen(); f != nil {
			all = append(all, frozenStatus(f.record))
		}
	}
	return all
}
