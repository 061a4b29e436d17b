package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
)

// Store is the dead letters of all projectors. It is safe for concurrent use.
type Store struct {
	control control.Store

	mu      sync.RWMutex
	letters map[string]map[string][]ref // by projector, then document id
	counts  map[string]int              // by projector
}

// ref is what is held in memory of a letter.
type ref struct {
	id     string
	offset event.Offset
}

// Open reads which letters there are and returns the store. The control store stays the caller's to close; no
// other Store may write to it.
func Open(ctx context.Context, store control.Store) (*Store, error) {
	s := &Store{control: store, letters: map[string]map[string][]ref{}, counts: map[string]int{}}
	err := store.List(ctx, keyPrefix, func(key string, value []byte) error {
		l, err := decode(key, value)
		if err != nil {
			return err
		}
		s.add(&l)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	return s, nil
}

// Park keeps a letter durably. It sets the letter's ID, and its Time when that is zero. Parking the same version
// of the same document again replaces the letter.
func (s *Store) Park(ctx context.Context, l Letter) error {
	if err := l.validate(); err != nil {
		return fmt.Errorf("park dead letter: %w", err)
	}
	l.bound()
	l.ID = letterID(&l)
	if l.Time.IsZero() {
		l.Time = time.Now().UTC()
	}
	value, err := encode(&l)
	if err != nil {
		return fmt.Errorf("park dead letter %s: %w", l.ID, err)
	}
	if err := s.control.Put(ctx, keyPrefix+l.ID, value); err != nil {
		return fmt.Errorf("park dead letter %s: %w", l.ID, err)
	}
	s.add(&l)
	return nil
}

// Get returns the letter with the id; false when there is none.
func (s *Store) Get(ctx context.Context, id string) (Letter, bool, error) {
	value, ok, err := s.control.Get(ctx, keyPrefix+id)
	if err != nil {
		return Letter{}, false, fmt.Errorf("get dead letter %q: %w", id, err)
	}
	if !ok {
		return Letter{}, false, nil
	}
	l, err := decode(keyPrefix+id, value)
	return l, err == nil, err
}

// Filter chooses letters. Its zero value chooses all; every field that is set must match.
type Filter struct {
	Projector  string
	View       string
	DocumentID string
	Since      time.Time // parked then or later
	After      string    // the id of the last letter already seen
	Limit      int       // at most so many; 0 is no limit
}

func (f *Filter) match(l *Letter) bool {
	return (f.Projector == "" || f.Projector == l.Projector) &&
		(f.View == "" || f.View == l.View) &&
		(f.DocumentID == "" || f.DocumentID == l.DocumentID) &&
		(f.Since.IsZero() || !l.Time.Before(f.Since)) &&
		(f.After == "" || l.ID > f.After)
}

var errStop = errors.New("stop")

// List calls visit with the letters that the filter chooses, ordered by id, which is projector and offset, until
// visit returns an error.
func (s *Store) List(ctx context.Context, f Filter, visit func(Letter) error) error {
	prefix := keyPrefix
	if f.Projector != "" {
		prefix += projectorPrefix(f.Projector)
	}
	seen := 0
	err := s.control.List(ctx, prefix, func(key string, value []byte) error {
		l, err := decode(key, value)
		if err != nil {
			return err
		}
		if !f.match(&l) {
			return nil
		}
		if err := visit(l); err != nil {
			return err
		}
		if seen++; seen == f.Limit {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// Resolve removes the projector's letters for the document up to and with the given version: the sink has
// accepted that version. It costs a map lookup when there is nothing to remove.
func (s *Store) Resolve(ctx context.Context, projector, documentID string, version event.Offset) error {
	for _, r := range s.refs(projector, documentID) {
		if r.offset > version {
			continue
		}
		if err := s.remove(ctx, projector, documentID, r); err != nil {
			return fmt.Errorf("resolve dead letter %s: %w", r.id, err)
		}
	}
	return nil
}

// Discard removes the letter with the id and says whether there was one.
func (s *Store) Discard(ctx context.Context, id string) (bool, error) {
	l, ok, err := s.Get(ctx, id)
	if err != nil || !ok {
		return false, err
	}
	if err := s.remove(ctx, l.Projector, l.DocumentID, ref{id: l.ID, offset: l.Offset}); err != nil {
		return false, fmt.Errorf("discard dead letter %s: %w", id, err)
	}
	return true, nil
}

// Parked is the newest version of a document that is parked; false when none is. It costs a map lookup.
func (s *Store) Parked(projector, documentID string) (event.Offset, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var newest event.Offset
	refs := s.letters[projector][documentID]
	for _, r := range refs {
		newest = max(newest, r.offset)
	}
	return newest, len(refs) > 0
}

// Count is how many letters the projector has.
func (s *Store) Count(projector string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.counts[projector]
}

// refs is a copy of what is held of the document's letters; nil, without allocating, when there are none.
func (s *Store) refs(projector, documentID string) []ref {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.letters[projector][documentID])
}

// remove takes the letter out of the control store and then out of memory, in that order: a failed delete is
// tried again by the next Resolve.
func (s *Store) remove(ctx context.Context, projector, documentID string, r ref) error {
	if err := s.control.Delete(ctx, keyPrefix+r.id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	docs := s.letters[projector]
	before := len(docs[documentID])
	left := slices.DeleteFunc(docs[documentID], func(o ref) bool { return o.id == r.id })
	s.counts[projector] -= before - len(left)
	if len(left) > 0 {
		docs[documentID] = left
		return nil
	}
	delete(docs, documentID)
	if len(docs) == 0 {
		delete(s.letters, projector)
		delete(s.counts, projector)
	}
	return nil
}

func (s *Store) add(l *Letter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	docs := s.letters[l.Projector]
	if docs == nil {
		docs = map[string][]ref{}
		s.letters[l.Projector] = docs
	}
	r := ref{id: l.ID, offset: l.Offset}
	if slices.Contains(docs[l.DocumentID], r) {
		return
	}
	docs[l.DocumentID] = append(docs[l.DocumentID], r)
	s.counts[l.Projector]++
}
