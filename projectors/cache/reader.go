package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

// ErrNotFound means that a document does not exist.
var ErrNotFound = errors.New("no such document")

// Compose composes documents from the source of truth, the mirror, in the order of ids, all of them from one snapshot, with the
// offset of the snapshot. A document that does not exist has a nil Body. It may be called concurrently.
type Compose func(ctx context.Context, ids []string) ([]views.Document, event.Offset, error)

// Reader reads a view's documents. What Redis misses, because it expired or was evicted, is composed anew and put back.
// It is safe for concurrent use.
type Reader struct {
	store   *Store
	compose Compose
}

// NewReader makes the read side of a store.
func NewReader(store *Store, compose Compose) *Reader {
	r := &Reader{store: store, compose: compose}
	store.reads(r)
	return r
}

// of is the reader of the definition that a generation is of: by another one documents would have other fields, and other
// lookups.
func (r *Reader) of(p *pointer) *Reader {
	if p.record.Hash == r.store.hash {
		return r
	}
	if other := r.store.reader(p.record.Hash); other != nil {
		return other
	}
	return r
}

// Get returns the document with the id, or ErrNotFound, or ErrUnavailable, or a *projectors.OpenError.
func (r *Reader) Get(ctx context.Context, id string) (doc Document, err error) {
	err = r.store.client.cfg.Circuit.Read(ctx, func() error {
		doc, err = r.get(ctx, id)
		return err
	})
	return doc, err
}

func (r *Reader) get(ctx context.Context, id string) (Document, error) {
	doc, state, err := r.store.Get(ctx, id)
	if err != nil {
		return Document{}, err
	}
	switch state {
	case Found:
		return doc, nil
	case Deleted:
		return doc, ErrNotFound
	}
	docs, err := r.fill(ctx, []string{id})
	if err != nil {
		return Document{}, err
	}
	if docs[0].Body == nil {
		return docs[0], ErrNotFound
	}
	return docs[0], nil
}

// Lookup returns a page of the documents that have the value in a declared lookup, ordered by id as text. See Store.Lookup.
func (r *Reader) Lookup(ctx context.Context, lookup, value, after string, limit int) (page Page, err error) {
	err = r.store.client.cfg.Circuit.Read(ctx, func() error {
		page, err = r.lookup(ctx, lookup, value, after, limit)
		return err
	})
	return page, err
}

func (r *Reader) lookup(ctx context.Context, lookup, value, after string, limit int) (Page, error) {
	found, err := r.store.lookUp(ctx, lookup, value, after, limit)
	page, p := found.Page, found.of
	if err != nil || len(page.Missing) == 0 {
		return page, err
	}
	return r.of(p).complete(ctx, page, p, lookup, value)
}

// complete composes the documents of a page that have expired.
func (r *Reader) complete(ctx context.Context, page Page, p *pointer, lookup, value string) (Page, error) {
	index := slices.Index(r.store.lookups, lookup)
	if index < 0 { // the definition that could say where the documents belong is not read by in this process
		return Page{}, r.store.classify("look up documents", fmt.Errorf("%w: %q is a lookup of another definition", ErrUnavailable, lookup))
	}
	missing, version, err := r.composed(ctx, page.Missing)
	if err != nil {
		return Page{}, err
	}
	var stale pruning
	for i := range missing {
		doc := &missing[i]
		if doc.Body == nil || index >= len(doc.Lookups) || doc.Lookups[index] != value {
			stale.add(p, doc.ID, "")
			continue
		}
		page.Documents = append(page.Documents, Document{ID: doc.ID, Body: doc.Body, Version: version})
	}
	slices.SortFunc(page.Documents, func(a, b Document) int { return strings.Compare(a.ID, b.ID) })
	page.Missing = nil
	r.refill(ctx, p, version, missing)
	return page, r.store.classify("look up documents", stale.run(ctx, r.store, p, lookup, value))
}

// fill composes documents that Redis misses and puts them back.
func (r *Reader) fill(ctx context.Context, ids []string) ([]Document, error) {
	p, err := r.store.pointer(ctx)
	if err != nil {
		return nil, r.store.classify("get document", err)
	}
	r = r.of(p)
	docs, version, err := r.composed(ctx, ids)
	if err != nil {
		return nil, err
	}
	r.refill(ctx, p, version, docs)
	filled := make([]Document, len(docs))
	for i := range docs {
		filled[i] = Document{ID: ids[i], Body: docs[i].Body, Version: version, Definition: r.store.hash}
	}
	return filled, nil
}

func (r *Reader) composed(ctx context.Context, ids []string) ([]views.Document, event.Offset, error) {
	docs, version, err := r.compose(ctx, ids)
	if err != nil {
		return nil, 0, r.store.classify("compose document", err)
	}
	if len(docs) != len(ids) {
		return nil, 0, r.store.classify("compose document", fmt.Errorf("%d documents for %d ids", len(docs), len(ids)))
	}
	for i := range docs {
		docs[i].ID = ids[i]
	}
	return docs, version, nil
}

// refill puts composed documents into the live generation, when that is of the view's present definition and this
// process looks after it. Those that do not exist are not put: anybody may ask for any id. That it fails only means that
// the next reader composes them too.
func (r *Reader) refill(ctx context.Context, p *pointer, version event.Offset, docs []views.Document) {
	g := r.store.generation(p.number, p.record.Identity)
	if g == nil || p.record.Hash != r.store.hash {
		return
	}
	docs = slices.DeleteFunc(slices.Clone(docs), func(d views.Document) bool { return d.Body == nil })
	if _, err := g.write(ctx, version, docs); err != nil {
		r.store.client.log.Debug("expired documents not put back", "view", r.store.view, "documents", len(docs), "error", err)
	}
}
