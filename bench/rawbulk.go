package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/views"
)

// Kinds of raw bulk requests.
const (
	bulkNew     = "new"     // into an empty index, in which most documents are new
	bulkReplace = "replace" // once more into the same index, in which each replaces one
)

// bulkBytes is about the size of a bulk request.
const bulkBytes = 2 << 20

// measureRawBulk writes the same documents with nothing in between, into an index that is made as the daemon makes its own.
func measureRawBulk(ctx context.Context, r *round) ([]sample, error) {
	best := map[string]sample{}
	for _, writers := range rawWriters {
		report, err := r.worker(ctx, "bulk", task{
			Source: r.database.url, Elasticsearch: r.stack.Elasticsearch(), Prefix: fmt.Sprintf("%sraw-%d-", r.prefix, writers),
			Operations: r.backlog.changes, Writers: writers,
		})
		if err != nil {
			return nil, err
		}
		for _, p := range report.Phases {
			best[p.Name] = faster(best[p.Name], p.rawSample(sinkElasticsearch, p.Name, writers))
		}
	}
	return []sample{best[bulkNew], best[bulkReplace]}, nil
}

// writeBulk writes documents by bulk requests into an index of its own, twice, and removes the index.
func writeBulk(ctx context.Context, t task) (r report, err error) {
	documents, err := loadDocuments(ctx, t.Source)
	if err != nil {
		return r, err
	}
	if err := createIndex(ctx, t); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, deleteIndices(context.WithoutCancel(ctx), t.Elasticsearch, t.Prefix)) }()
	todo, version := operations(documents, t.Operations), 0
	for _, kind := range []string{bulkNew, bulkReplace} {
		bodies := bulkBodies(todo, version)
		version += len(todo)
		p, err := sendBulks(ctx, t, kind, bodies, len(todo))
		if err != nil {
			return r, err
		}
		r.Phases = append(r.Phases, p)
	}
	return r, nil
}

// createIndex makes an index with the mapping and the settings that the view's would have, and in the state of a live one.
func createIndex(ctx context.Context, t task) error {
	tables, err := catalog(ctx, t.Source, table)
	if err != nil {
		return err
	}
	definitions, err := views.Parse(viewName, viewOf(viewName, table, sinkElasticsearch))
	if err != nil {
		return err
	}
	compiled, err := views.Compile(definitions, tables)
	if err != nil {
		return err
	}
	client, err := search.NewClient(search.Config{URLs: []string{t.Elasticsearch}, Prefix: t.Prefix})
	if err != nil {
		return err
	}
	store := client.Store(compiled[0])
	_, err = store.Create(ctx, projectors.Info{Number: 1})
	if err == nil {
		err = store.Promote(ctx, 1)
	}
	return errors.Join(err, client.Close(ctx))
}

// bulkBodies lays out requests, with versions as the daemon uses them.
func bulkBodies(documents []document, version int) [][]byte {
	var bodies [][]byte
	var body []byte
	for i, d := range documents {
		body = fmt.Appendf(body, `{"index":{"_id":%q,"version":%d,"version_type":"external_gte"}}`+"\n", d.id, version+i+1)
		body = append(append(body, d.body...), '\n')
		if len(body) >= bulkBytes || i == len(documents)-1 {
			bodies, body = append(bodies, body), make([]byte, 0, len(body))
		}
	}
	return bodies
}

// sendBulks sends requests from several writers, each taking the next.
func sendBulks(ctx context.Context, t task, kind string, bodies [][]byte, operations int) (phase, error) {
	url := t.Elasticsearch + "/" + t.Prefix + viewName + "/_bulk?filter_path=errors,items.*.error.type"
	watch, err := startWatch()
	if err != nil {
		return phase{}, err
	}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range t.Writers {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(bodies); i = int(next.Add(1)) - 1 {
				answer, code, err := exchange(ctx, http.MethodPost, url, bytes.NewReader(bodies[i]))
				if err != nil {
					return fmt.Errorf("bulk: %w", err)
				}
				if err := checkBulk(answer, code); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return phase{}, err
	}
	return watch.stop(kind, operations)
}

// checkBulk is the error of a bulk request. That a newer version of a document is there already is none: another writer
// was faster.
func checkBulk(answer []byte, code int) error {
	if code != http.StatusOK {
		return fmt.Errorf("bulk: %d %s", code, answer)
	}
	var a struct {
		Errors bool
		Items  []map[string]struct{ Error struct{ Type string } }
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return fmt.Errorf("bulk: %w", err)
	}
	for _, item := range a.Items {
		for _, outcome := range item {
			if outcome.Error.Type != "version_conflict_engine_exception" {
				return fmt.Errorf("bulk: a document was refused: %s", outcome.Error.Type)
			}
		}
	}
	return nil
}

// deleteIndices removes all indices with a prefix.
func deleteIndices(ctx context.Context, url, prefix string) error {
	answer, code, err := get(ctx, url+"/"+prefix+"*?features=aliases&expand_wildcards=all")
	if err != nil || code != http.StatusOK {
		return errors.Join(fmt.Errorf("list indices %s*: %d %s", prefix, code, answer), err)
	}
	var indices map[string]any
	if err := json.Unmarshal(answer, &indices); err != nil {
		return fmt.Errorf("list indices %s*: %w", prefix, err)
	}
	for name := range indices {
		if answer, code, err := exchange(ctx, http.MethodDelete, url+"/"+name, nil); err != nil || code != http.StatusOK {
			return errors.Join(fmt.Errorf("delete index %s: %d %s", name, code, answer), err)
		}
	}
	return nil
}
