package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/event"
)

// ErrUnavailable means that Redis cannot be asked now: no generation is live yet, or it has lost data and what it holds is
// not what was written. It passes by itself.
var ErrUnavailable = errors.New("the cache of the view is being built")

// ErrNoLookup means that the live generation has no such lookup: the view does not declare it, or is being rebuilt with it.
var ErrNoLookup = errors.New("no such lookup")

// State is what Redis knows of a document.
type State uint8

// The states of a document.
const (
	Missing State = iota // Redis has nothing of it, which says nothing: it may have expired
	Found                //
	Deleted              // it does not exist, as of Version
)

// Document is a document as Redis holds it.
type Document struct {
	ID      string
	Body    []byte       // JSON
	Version event.Offset // the offset that the document, or its deletion, was written with
	// Definition is the hash of the definition that the document was composed by. Those of a Page have none.
	Definition string
}

// errMoved means that another generation went live between two steps of a read.
var errMoved = errors.New("the live generation has changed")

// moves is how often a read follows the pointer to the live generation before it gives up.
const moves = 4

// Get reads a document from the live generation, in one round trip.
func (s *Store) Get(ctx context.Context, id string) (Document, State, error) {
	for range moves {
		doc, state, err := s.get(ctx, id)
		if errors.Is(err, errMoved) {
			continue
		}
		return doc, state, s.classify("get document", err)
	}
	return Document{}, Missing, s.classify("get document", fmt.Errorf("%w: %w", ErrUnavailable, errMoved))
}

// get reads a document, the pointer and the count of writes in one atomic step.
func (s *Store) get(ctx context.Context, id string) (Document, State, error) {
	p, err := s.pointer(ctx)
	if err != nil {
		return Document{}, Missing, err
	}
	trust := s.trust(p)
	values, err := s.client.redis.MGet(ctx, p.keys.documents+id, s.liveKey(), p.keys.writes).Result()
	if err != nil {
		return Document{}, Missing, err
	}
	if err := s.follow(p, values[1]); err != nil {
		return Document{}, Missing, err
	}
	if err := trust.check(values[2]); err != nil {
		return Document{}, Missing, err
	}
	text, ok := values[0].(string)
	if !ok {
		return Document{ID: id}, Missing, nil
	}
	v, err := decodeValue(text)
	if err != nil {
		return Document{}, Missing, fmt.Errorf("%s: %w", id, err)
	}
	if v.deleted {
		return Document{ID: id, Version: v.version}, Deleted, nil
	}
	return Document{ID: id, Version: v.version, Body: []byte(v.body), Definition: p.record.Hash}, Found, nil
}

// pointer is the live generation as it was seen last.
func (s *Store) pointer(ctx context.Context) (*pointer, error) {
	if p := s.live.Load(); p != nil {
		return p, nil
	}
	text, err := s.client.redis.Get(ctx, s.liveKey()).Result()
	if errors.Is(err, redis.Nil) {
		return nil, s.noPointer()
	}
	if err != nil {
		return nil, err
	}
	number, identity, err := splitPointer(text)
	if err != nil {
		return nil, err
	}
	r, ok, err := s.record(ctx, number)
	if err != nil {
		return nil, err
	}
	if !ok || r.Identity != identity {
		return nil, errMoved
	}
	p := &pointer{text: text, number: number, keys: generationKeys(s.key, number), record: r}
	s.live.Store(p)
	return p, nil
}

// follow compares the pointer that a read used with the one that Redis has.
func (s *Store) follow(p *pointer, live any) error {
	if live == p.text {
		return nil
	}
	s.live.CompareAndSwap(p, nil)
	if live == nil {
		if g := s.generation(p.number, p.record.Identity); g != nil {
			return fmt.Errorf("%w: %w", s.noPointer(), g.lose())
		}
		return s.noPointer()
	}
	return errMoved
}

func (s *Store) noPointer() error { return fmt.Errorf("%w: no generation is live", ErrUnavailable) }

// trust decides whether what a read answers can be believed. It is made before the read.
type trust struct {
	g    *generation // nil when this process has not opened the generation: then there is nothing to compare with
	seen int64
}

func (s *Store) trust(p *pointer) trust {
	g := s.generation(p.number, p.record.Identity)
	if g == nil {
		return trust{}
	}
	return trust{g: g, seen: g.seen.Load()}
}

func (t trust) check(writes any) error {
	if t.g == nil {
		return nil
	}
	if n, ok := parseWrites(writes); !ok || n < t.seen {
		return fmt.Errorf("%w: %w", ErrUnavailable, t.g.lose())
	}
	if t.g.lost.Load() {
		return fmt.Errorf("%w: %w", ErrUnavailable, t.g.lose())
	}
	if awaited := t.g.awaited.Load(); awaited != 0 {
		return fmt.Errorf("%w: it has lost data and is catching up to offset %v", ErrUnavailable, event.Offset(awaited))
	}
	return nil
}

// Page is some of the documents of a lookup.
type Page struct {
	Documents []Document // ordered by id, as text
	Missing   []string   // ids that belong here but whose documents have expired, in order
	Next      string     // where the next page begins; "" when there is none
}

// PageBytes bounds the documents of a page, in bytes; a page has at least one.
const PageBytes = 4 << 20

// Lookup reads documents by the value of a declared lookup, in one round trip: at most limit of them, after the one with the
// id after ("" for the first).
func (s *Store) Lookup(ctx context.Context, lookup, value, after string, limit int) (Page, error) {
	found, err := s.lookUp(ctx, lookup, value, after, limit)
	return found.Page, err
}

// lookedUp is a page with the generation that it is of.
type lookedUp struct {
	Page
	of *pointer
}

func (s *Store) lookUp(ctx context.Context, lookup, value, after string, limit int) (lookedUp, error) {
	for range moves {
		page, err := s.lookup(ctx, lookup, value, after, limit)
		if errors.Is(err, errMoved) {
			continue
		}
		return page, s.classify("look up documents", err)
	}
	return lookedUp{}, s.classify("look up documents", fmt.Errorf("%w: %w", ErrUnavailable, errMoved))
}

func (s *Store) lookup(ctx context.Context, lookup, value, after string, limit int) (found lookedUp, err error) {
	p, err := s.pointer(ctx)
	if err != nil {
		return found, err
	}
	found.of = p
	trust := s.trust(p)
	answer, err := s.client.run(ctx, lookupScript, []string{s.liveKey()}, s.key, lookup, value, after, limit, PageBytes).Slice()
	if err != nil {
		return found, err
	}
	if len(answer) == 0 {
		return found, s.follow(p, nil)
	}
	if err := s.follow(p, answer[0]); err != nil {
		return found, err
	}
	if err := trust.check(answer[1]); err != nil {
		return found, err
	}
	index := slices.Index(p.record.Lookups, lookup)
	if index < 0 {
		return found, fmt.Errorf("%w: %q", ErrNoLookup, lookup)
	}
	found.Page, err = s.page(ctx, p, index, value, answer[2:])
	return found, err
}

// page sorts out what the lookup script answered. An id whose document has since got another value, which only happens
// when it had expired before, is left out and removed from the lookup.
func (s *Store) page(ctx context.Context, p *pointer, index int, want string, answer []any) (Page, error) {
	var page Page
	var stale pruning
	last := ""
	for i := 1; i+1 < len(answer); i += 2 {
		id, _ := answer[i].(string)
		last = id
		text, ok := answer[i+1].(string)
		if !ok {
			page.Missing = append(page.Missing, id)
			continue
		}
		v, err := decodeValue(text)
		if err != nil {
			return Page{}, fmt.Errorf("%s: %w", id, err)
		}
		got, err := v.lookup(index)
		if err != nil {
			return Page{}, fmt.Errorf("%s: %w", id, err)
		}
		if v.deleted || got != want {
			stale.add(p, id, text[:versionDigits])
			continue
		}
		page.Documents = append(page.Documents, Document{ID: id, Version: v.version, Body: []byte(v.body)})
	}
	if answer[0] == int64(1) {
		page.Next = last
	}
	return page, stale.run(ctx, s, p, p.record.Lookups[index], want)
}

// pruning is a call of the prune script.
type pruning struct {
	keys []string
	args []any
}

// add names an id that does not belong to a lookup, and the version of its document, "" when there is none.
func (r *pruning) add(p *pointer, id, version string) {
	r.keys = append(r.keys, p.keys.documents+id)
	r.args = append(r.args, id, version)
}

func (r *pruning) run(ctx context.Context, s *Store, p *pointer, lookup, value string) error {
	if len(r.keys) == 0 {
		return nil
	}
	keys := append([]string{p.keys.lookups + lookup + ":" + value}, r.keys...)
	return s.client.run(ctx, pruneScript, keys, r.args...).Err()
}

// String names the state.
func (s State) String() string {
	switch s {
	case Missing:
		return "missing"
	case Found:
		return "found"
	case Deleted:
		return "deleted"
	}
	return "state " + strconv.Itoa(int(s))
}
