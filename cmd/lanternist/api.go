package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/lanternist/lanternist/deadletter"
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
	if err := projectors.Register(registry, n.projectors); err != nil {
		return nil, err
	}
	if err := deadletter.Register(registry, n.letters); err != nil {
		return nil, err
	}
	if err := projectors.RegisterSinks(registry, n.sinkStatuses); err != nil {
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
		MaxWait: n.cfg.HTTP.MaxWait.D(), MaxWaiters: n.cfg.HTTP.MaxWaiters, ReadTimeout: n.cfg.HTTP.ReadTimeout.D(),
		MaxConnections: placesFor(openFiles()),
	}, httpapi.Parts{
		Views: append(n.apiViews(), frozen...), AsOf: n.past.service, Checkpoints: n.past.keeper, Verify: n.verify, Changes: n, Schemas: n, Sinks: n.sinkStatuses,
		Source: n.reader, Journal: n.journal, Mirror: n.mirror, Letters: n.letters, Alert: n.alert,
		Archive: n.apiArchiver(), Load: n.loadStatus, Metrics: registry,
		Disks: n.disks.waiting, Slot: n.slots.status,
		Envelope: func(dst []byte, ev *event.Event) ([]byte, error) { return event.AppendEnvelope(dst, ev, source), nil },
	}, n.log)
	if err != nil {
		return nil, err
	}
	n.serving = func(view string) { n.serve(api, view) }
	return api, nil
}

// projectors are those that there are now.
func (n *daemon) projectors() []*projectors.Runner {
	var all []*projectors.Runner
	for _, r := range n.runners.list() {
		all = append(all, r.Runner)
	}
	return all
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

// unserve has the API read a view without a projector that goes, if it reads it at all then.
func (n *daemon) unserve(gone *runner) {
	n.swapping.Lock()
	defer n.swapping.Unlock()
	name := gone.view().Name()
	for _, v := range n.apiViews(gone) {
		if v.Definition.Name() == name {
			if err := n.api.PutView(v); err != nil {
				n.log.Error("view not served", "view", name, "error", err)
			}
			return
		}
	}
	n.api.DropView(name)
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
// Where a view is new in a sink, it is read from the other until there is something to read.
func (n *daemon) apiViews(without ...*runner) []*httpapi.View {
	var all []*httpapi.View
	byName := map[string]*httpapi.View{}
	runners := slices.DeleteFunc(n.runners.list(), func(r *runner) bool { return slices.Contains(without, r) })
	for _, r := range runners {
		now := r.Definition()
		if r.added && !r.shows() && slices.ContainsFunc(runners, func(other *runner) bool {
			return other != r && other.shows() && other.view().Name() == now.View.Name()
		}) {
			continue
		}
		v := byName[now.View.Name()]
		if v == nil {
			v = &httpapi.View{Definition: now.View, Added: r.added}
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
