package httpapi

import (
	"context"
	"sync/atomic"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/views"
)

// View is one view and the sinks that hold it.
type View struct {
	// Definition is the one by which documents are read by id and by lookup: the cache's when the view goes there.
	Definition *views.View
	Cache      *CacheSink  // nil: the view does not go to the cache
	Search     *SearchSink // nil: the view does not go to the search sink
	// Added says that the view came while the server runs: it is no reason not to be ready before there is something to read.
	Added bool
}

// CacheSink is a view's documents in the cache and the projector that writes them.
type CacheSink struct {
	Documents Documents
	Projector Projector
}

// SearchSink is a view's documents in the search sink and the projector that writes them.
type SearchSink struct {
	Documents Searcher
	Projector Projector

	shown atomic.Pointer[position] // the newest position that the index is known to show
}

// Documents reads a view from the cache. It is *cache.Reader.
type Documents interface {
	Get(ctx context.Context, id string) (cache.Document, error)
	Lookup(ctx context.Context, lookup, value, after string, limit int) (cache.Page, error)
}

// Searcher reads a view from the search sink. It is *search.Store.
type Searcher interface {
	Get(ctx context.Context, id string) (search.Hit, bool, error)
	Search(ctx context.Context, q search.Query) (*search.Result, error)
}

// Replayer is what the API needs of a projector of any kind. It is a *projectors.Runner or a *stream.Projector.
type Replayer interface {
	Status() projectors.Status
	// Replay returns when the events of the range were run again.
	Replay(ctx context.Context, what projectors.ReplayRange, progress func(projectors.ReplayResult)) (projectors.ReplayResult, error)
}

// Projector is what the API needs of a *projectors.Runner.
type Projector interface {
	Replayer
	// Watermark is how far readers can rely on the documents, with a channel that is closed when that changes.
	Watermark() (mirror.Progress, <-chan struct{})
	// Recheck has the projector find out whether its sink has lost data.
	Recheck()
	// Rebuild returns when a new generation is live.
	Rebuild(ctx context.Context, progress projectors.Progress) error
	// Rollback returns when the generation that was live before is live again.
	Rollback(ctx context.Context, progress projectors.Progress) error
	// Retire returns when the live generation is the only one.
	Retire(ctx context.Context, progress projectors.Progress) error
}

func (v *View) name() string { return v.Definition.Name() }

// projectors lists the projectors of the view, by sink.
func (v *View) projectors() map[string]Projector {
	all := map[string]Projector{}
	if v.Cache != nil {
		all["cache"] = v.Cache.Projector
	}
	if v.Search != nil {
		all["search"] = v.Search.Projector
	}
	return all
}

// document is a document from either sink.
type document = cache.Document

// reader is where documents are read by id: the cache when the view goes there.
func (v *View) reader() (Projector, func(ctx context.Context, id string) (document, error)) {
	if v.Cache != nil {
		return v.Cache.Projector, v.Cache.Documents.Get
	}
	return v.Search.Projector, func(ctx context.Context, id string) (document, error) {
		hit, ok, err := v.Search.Documents.Get(ctx, id)
		if err == nil && !ok {
			err = cache.ErrNotFound
		}
		return document{ID: id, Body: hit.Source, Version: hit.Version, Definition: hit.Definition}, err
	}
}
