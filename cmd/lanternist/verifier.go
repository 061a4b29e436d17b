package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/verify"
)

// verifiedSink is one view in one sink, as verify reads it.
type verifiedSink struct {
	*sinkDocuments
	read func(ctx context.Context, id string) (verify.Held, error)
}

// Get implements verify.Documents.
func (s verifiedSink) Get(ctx context.Context, id string) (verify.Held, error) {
	return s.read(ctx, id)
}

// verify compares the documents of a view.
func (n *daemon) verify(ctx context.Context, view string, o verify.Options, progress func(verify.Progress)) (*verify.Result, error) {
	c := verify.Comparison{Truth: verify.Mirror{Mirror: n.mirror}, Ask: n.reader.RequestPosition}
	for _, r := range n.runners.list() {
		if r.view().Name() == view {
			c.View = r.view()
			c.Sinks = append(c.Sinks, n.verifiedSink(r))
		}
	}
	if c.View == nil {
		return nil, fmt.Errorf("there is no view %q", view)
	}
	if o.Against == verify.AgainstSource {
		c.Truth = &verify.Source{
			Config: n.sourceConfig(), View: c.View, Tables: n.catalog.all(), Schemas: n.registry,
			Dir: filepath.Join(filepath.Clean(n.cfg.Path(n.cfg.Mirror.Dir))+"-verify", view), Log: n.log,
		}
	}
	return verify.Run(ctx, c, o, progress)
}

func (n *daemon) verifiedSink(r *runner) verify.Sink {
	now := r.Definition()
	if store, ok := now.Store.(*search.Store); ok {
		return verify.Sink{Name: "search", Projector: r.Runner, Documents: verifiedSink{
			searchDocuments(n.search.Store(now.View), store), searchHeld(store),
		}}
	}
	store := r.cache()
	return verify.Sink{Name: "cache", Projector: r.Runner, Documents: verifiedSink{
		cacheDocuments(n.cache.Store(now.View), store), cacheHeld(store, now.View.Cache().TTL > 0),
	}}
}

func searchHeld(s *search.Store) func(context.Context, string) (verify.Held, error) {
	return func(ctx context.Context, id string) (verify.Held, error) {
		hit, _, err := s.Get(ctx, id)
		return verify.Held{Body: hit.Source}, err
	}
}

// cacheHeld reads from Redis. What expires may be gone, which is nothing wrong.
func cacheHeld(s *cache.Store, expires bool) func(context.Context, string) (verify.Held, error) {
	return func(ctx context.Context, id string) (verify.Held, error) {
		doc, state, err := s.Get(ctx, id)
		if errors.Is(err, cache.ErrForeign) {
			return verify.Held{Foreign: err.Error()}, nil
		}
		return verify.Held{Body: doc.Body, Expired: expires && state == cache.Missing}, err
	}
}
