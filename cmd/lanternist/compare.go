package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
)

// comparisonReads is how many documents a comparison reads at once.
const comparisonReads = 16

// sinkDocuments is one view in one sink, read the way the API reads it.
type sinkDocuments struct {
	// store lists the ids. It is not the projector's own: a store takes a generation that is opened again from
	// whoever had it open.
	store projectors.Store
	get   func(ctx context.Context, id string) (body []byte, found bool, err error)
}

// Documents implements shop.Documents.
func (s *sinkDocuments) Documents(ctx context.Context, ids []string) (map[string][]byte, error) {
	var mu sync.Mutex
	found := make(map[string][]byte, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(comparisonReads)
	for _, id := range ids {
		g.Go(func() error {
			body, ok, err := s.get(ctx, id)
			if err != nil || !ok {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			found[id] = body
			return nil
		})
	}
	return found, g.Wait()
}

// IDs implements shop.Documents.
func (s *sinkDocuments) IDs(ctx context.Context, visit func(id string) error) error {
	generations, err := s.store.Generations(ctx)
	if err != nil {
		return err
	}
	for _, info := range generations {
		if info.Live {
			g, err := s.store.Open(ctx, info.Number)
			if err != nil {
				return err
			}
			return g.IDs(ctx, visit)
		}
	}
	return errors.New("no generation is live")
}

func searchDocuments(own projectors.Store, s *search.Store) *sinkDocuments {
	return &sinkDocuments{store: own, get: func(ctx context.Context, id string) ([]byte, bool, error) {
		hit, ok, err := s.Get(ctx, id)
		return hit.Source, ok, err
	}}
}

func cacheDocuments(own projectors.Store, s *cache.Store) *sinkDocuments {
	return &sinkDocuments{store: own, get: func(ctx context.Context, id string) ([]byte, bool, error) {
		doc, state, err := s.Get(ctx, id)
		return doc.Body, state == cache.Found, err
	}}
}

// compareShop waits until every projector has applied everything that is committed, then compares every document of
// every view in every sink with the truth, in one snapshot of the source. Nothing may write to the shop meanwhile.
func (n *daemon) compareShop(ctx context.Context) (shop.Comparison, error) {
	var result shop.Comparison
	conn, err := pgx.Connect(ctx, n.cfg.Source.URL.Reveal())
	if err != nil {
		return result, fmt.Errorf("connect to the source: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := n.waitForAll(ctx, conn); err != nil {
		return result, err
	}
	sinks := map[string]map[string]shop.Documents{}
	for _, r := range n.runners.list() {
		name := r.view().Name()
		if sinks[name] == nil {
			sinks[name] = map[string]shop.Documents{}
		}
		if r.search() != nil {
			sinks[name]["Elasticsearch"] = searchDocuments(n.search.Store(r.view()), r.search())
		} else {
			sinks[name]["Redis"] = cacheDocuments(n.cache.Store(r.view()), r.cache())
		}
	}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		result, err = shop.Compare(ctx, tx, sinks)
		return err
	})
	return result, err
}
