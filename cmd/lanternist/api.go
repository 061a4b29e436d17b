package main

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/journal/archive"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/views"
)

// newAPI wires the query API to the parts.
func newAPI(n *daemon) (*httpapi.Server, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	all := make([]*projectors.Runner, len(n.runners))
	for i, r := range n.runners {
		all[i] = r.Runner
	}
	if err := projectors.Register(registry, all...); err != nil {
		return nil, err
	}
	if n.archiving.archiver != nil {
		if err := archive.Register(registry, n.archiving.archiver); err != nil {
			return nil, err
		}
	}
	frozen, err := n.frozenViews()
	if err != nil {
		return nil, err
	}
	source := event.Source{SystemID: n.source.SystemID, Database: n.source.Database}
	api, err := httpapi.New(httpapi.Config{
		Listen: n.cfg.HTTP.Listen, Token: n.cfg.HTTP.Token.Reveal(),
		TLSCert: n.cfg.Path(n.cfg.HTTP.TLSCert), TLSKey: n.cfg.Path(n.cfg.HTTP.TLSKey),
		Epoch: n.epoch(), SourceURL: n.cfg.Source.URL.Reveal(), Version: version,
		MaxWait: n.cfg.HTTP.MaxWait.D(), MaxWaiters: n.cfg.HTTP.MaxWaiters,
	}, httpapi.Parts{
		Views: append(n.apiViews(), frozen...), AsOf: n.past.service, Checkpoints: n.past.keeper, Verify: n.verify,
		Source: n.reader, Journal: n.journal, Mirror: n.mirror, Letters: n.letters,
		Archive: n.apiArchiver(), Load: n.loadStatus, Metrics: registry,
		Envelope: func(dst []byte, ev *event.Event) ([]byte, error) { return event.AppendEnvelope(dst, ev, source), nil },
	}, n.log)
	if err != nil {
		return nil, err
	}
	n.serving = func(view string) { n.serve(api, view) }
	return api, nil
}

// serve has the API read a view as its projectors write it now.
func (n *daemon) serve(api *httpapi.Server, view string) {
	n.swapping.Lock() // else what was found out first could be told last
	defer n.swapping.Unlock()
	for _, v := range n.apiViews() {
		if v.Definition.Name() != view {
			continue
		}
		if err := api.PutView(v); err != nil {
			n.log.Error("view not served by its new definition", "view", view, "error", err)
		}
	}
}

// loadStatus is how far the first load is.
func (n *daemon) loadStatus() httpapi.LoadStatus {
	p := n.loader.Progress()
	s := httpapi.LoadStatus{Loading: p.Loading, Rows: p.Rows, Total: p.Total}
	for _, t := range p.Failing {
		s.Failing = append(s.Failing, httpapi.LoadError(t))
	}
	return s
}

// apiViews are the views with the sinks that their readers use.
func (n *daemon) apiViews() []*httpapi.View {
	var all []*httpapi.View
	byName := map[string]*httpapi.View{}
	for _, r := range n.runners {
		now := r.Definition()
		v := byName[now.View.Name()]
		if v == nil {
			v = &httpapi.View{Definition: now.View}
			byName[now.View.Name()] = v
			all = append(all, v)
		}
		switch store := now.Store.(type) {
		case *search.Store:
			v.Search = &httpapi.SearchSink{Documents: store, Projector: r}
		case *cache.Store:
			v.Definition = now.View
			v.Cache = &httpapi.CacheSink{Documents: cache.NewReader(store, n.composeFor(now.View)), Projector: r}
		}
	}
	return all
}

// composeFor composes documents that the cache misses, from the mirror.
func (d *deployment) composeFor(v *views.View) cache.Compose {
	return func(ctx context.Context, ids []string) (docs []views.Document, version event.Offset, err error) {
		s, err := d.mirror.Snapshot(ctx)
		if err != nil {
			return nil, 0, fmt.Errorf("take a snapshot: %w", err)
		}
		defer func() {
			if closing := s.Close(); err == nil {
				err = closing
			}
		}()
		composer := v.Composer()
		for _, id := range ids {
			doc := views.Document{ID: id} // an id that is no key of the view names nothing
			if key, err := v.Key(id); err == nil {
				if doc, err = composer.Compose(s, key); err != nil {
					return nil, 0, err
				}
			}
			docs = append(docs, doc)
		}
		return docs, s.Progress().Offset, nil
	}
}
