package deadletter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
)

// Store is the dead letters of all projectors. It is safe for concurrent use.
type Store struct {
	control control.Store
	sketch  sketch
	tallies tallies
	changes changes

	// writing is held shared while a letter of one document is written, with that document's lock, and alone while many are.
	writing   sync.RWMutex
	documents [64]sync.Mutex // by digest
}

// Open finds out how many letters there are and returns the store. It reads keys, no letter. The control store stays the caller's to
// close; no other Store may write to it.
func Open(ctx context.Context, store control.Store) (*Store, error) {
	s := &Store{control: store, sketch: newSketch(), tallies: newTallies(), changes: newChanges()}
	if err := s.migrate(ctx); err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	if err := s.repair(ctx); err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	err := control.ListKeys(ctx, store, documentPrefix, func(key string) error {
		e, err := parseEntry(key)
		if err != nil {
			return err
		}
		s.sketch.add(e.projector, e.digest, 1)
		s.tallies.add(e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	return s, nil
}

// Park keeps a letter durably. It sets the letter's ID, and its times when they are zero. Parking the same version of the
// same document again replaces the letter: attempts add up, and it keeps the time when it was parked first.
func (s *Store) Park(ctx context.Context, l Letter) error {
	return s.park(ctx, l, func(e, other entry) bool { return e.id() == other.id() })
}

// Supersede is Park, and the letter takes the place of all of the projector's letters of older versions of the document as well.
func (s *Store) Supersede(ctx context.Context, l Letter) error {
	return s.park(ctx, l, func(e, other entry) bool { return e.id() == other.id() || other.offset < e.offset })
}

func (s *Store) park(ctx context.Context, l Letter, replaces func(e, other entry) bool) error {
	if err := l.validate(); err != nil {
		return fmt.Errorf("park dead letter: %w", err)
	}
	l.bound()
	l.ID, l.Pieces = letterID(&l), Pieces{}
	now := time.Now()
	if l.Time.IsZero() {
		l.Time = now
	}
	if l.Last.IsZero() && l.Class != Waiting {
		l.Last = now
	}
	l.Time, l.Last = microseconds(l.Time), microseconds(l.Last)
	unlock := s.lock(digest(l.DocumentID))
	defer unlock()
	var gone []Letter
	err := s.lettersOf(ctx, l.Projector, l.DocumentID, func(e entry) bool { return replaces(entryOf(&l), e) }, func(old Letter) error {
		if old.Time.Before(l.Time) {
			l.Time = old.Time
		}
		l.Attempts += old.Attempts
		gone = append(gone, old)
		return nil
	})
	if err == nil {
		err = s.write(ctx, gone, []Letter{l})
	}
	if err != nil {
		return fmt.Errorf("park dead letter %s: %w", l.ID, err)
	}
	s.changes.add(Parked, &l)
	return nil
}

// Update changes a letter in what does not say where it is: reason, class, attempts, when it was tried last. It is no error when there
// is none any more; then false.
func (s *Store) Update(ctx context.Context, id string, change func(*Letter)) (bool, error) {
	l, ok, err := s.head(ctx, id)
	if err != nil || !ok {
		return false, err
	}
	defer s.lock(digest(l.DocumentID))()
	if l, ok, err = s.head(ctx, id); err != nil || !ok {
		return false, err
	}
	old := l
	change(&l)
	l.Reason = clip(l.Reason, ReasonMaxBytes)
	if err := s.write(ctx, []Letter{old}, []Letter{l}); err != nil {
		return false, fmt.Errorf("change dead letter %s: %w", id, err)
	}
	s.changes.add(Parked, &l)
	return true, nil
}

// Get returns the letter with the id; false when there is none.
func (s *Store) Get(ctx context.Context, id string) (Letter, bool, error) {
	l, ok, err := s.head(ctx, id)
	if err != nil || !ok {
		return Letter{}, false, err
	}
	if l.Payload, err = s.pieces(ctx, payloadPrefix, &l, l.Pieces.Payload); err == nil {
		l.Event, err = s.pieces(ctx, eventPrefix, &l, l.Pieces.Event)
	}
	if err != nil {
		if now, still, _ := s.head(ctx, id); !still {
			return Letter{}, false, nil // removed meanwhile
		} else if now.Pieces.Set != l.Pieces.Set {
			return s.Get(ctx, id) // written again meanwhile
		}
		return Letter{}, false, fmt.Errorf("get dead letter %q: %w", id, err)
	}
	return l, true, nil
}

// head is Get without payload and event.
func (s *Store) head(ctx context.Context, id string) (Letter, bool, error) {
	key := letterKey(id)
	if key == "" || len(key) > control.MaxKey {
		return Letter{}, false, nil
	}
	value, ok, err := s.control.Get(ctx, key)
	if err != nil {
		return Letter{}, false, fmt.Errorf("get dead letter %q: %w", id, err)
	}
	if !ok {
		return Letter{}, false, nil
	}
	l, err := decode(id, value)
	return l, err == nil, err
}

var errStop = errors.New("stop")

// List calls visit with the letters that the filter chooses, without payloads, ordered by id, which is projector and offset, until
// visit returns an error. visit may change letters.
func (s *Store) List(ctx context.Context, f Filter, visit func(Letter) error) error {
	seen, after := 0, letterKey(f.After)
	if f.After != "" && after == "" {
		return fmt.Errorf("list dead letters: %q is no id of one", f.After)
	}
	err := control.ListAfter(ctx, s.control, f.prefix(), after, func(key string, value []byte) error {
		l, err := decode(key[len(letterPrefix):], value)
		if err != nil {
			return err
		}
		if !f.Matches(&l) {
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
// accepted that version. It does no I/O when the projector has no letters, and mostly none when the document has none.
func (s *Store) Resolve(ctx context.Context, projector, documentID string, version event.Offset) error {
	if !s.may(projector, documentID) {
		return nil
	}
	defer s.lock(digest(documentID))()
	var gone []Letter
	err := s.lettersOf(ctx, projector, documentID, func(e entry) bool { return e.offset <= version }, func(l Letter) error {
		gone = append(gone, l)
		return nil
	})
	if err == nil {
		err = s.write(ctx, gone, nil)
	}
	if err != nil {
		return fmt.Errorf("resolve dead letters of %s of %s: %w", documentID, projector, err)
	}
	for i := range gone {
		s.changes.add(Resolved, &gone[i])
	}
	return nil
}

// Discard removes the letter with the id and says whether there was one.
func (s *Store) Discard(ctx context.Context, id string) (bool, error) {
	l, ok, err := s.head(ctx, id)
	if err != nil || !ok {
		return false, err
	}
	defer s.lock(digest(l.DocumentID))()
	if l, ok, err = s.head(ctx, id); err != nil || !ok {
		return false, err
	}
	if err := s.write(ctx, []Letter{l}, nil); err != nil {
		return false, fmt.Errorf("discard dead letter %s: %w", id, err)
	}
	s.changes.add(Discarded, &l)
	return true, nil
}

// Parked is the newest version of a document that is parked; false when none is. It costs what Resolve does.
func (s *Store) Parked(ctx context.Context, projector, documentID string) (newest event.Offset, parked bool, err error) {
	if !s.may(projector, documentID) {
		return 0, false, nil
	}
	err = s.lettersOf(ctx, projector, documentID, func(entry) bool { return true }, func(l Letter) error {
		newest, parked = max(newest, l.Offset), true
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("look for dead letters of %s of %s: %w", documentID, projector, err)
	}
	return newest, parked, nil
}

// Count is how many letters the projector has. It does no I/O.
func (s *Store) Count(projector string) int { return s.tallies.count(escape(projector)) }

// may says whether the document may have a letter.
func (s *Store) may(projector, documentID string) bool {
	name := escape(projector)
	return s.tallies.any(name) && s.sketch.has(name, digest(documentID))
}

// lettersOf visits the letters of a document that are chosen, oldest version first.
func (s *Store) lettersOf(ctx context.Context, projector, documentID string, choose func(entry) bool, visit func(Letter) error) error {
	name, sum := escape(projector), digest(documentID)
	if !s.sketch.has(name, sum) {
		return nil
	}
	return control.ListKeys(ctx, s.control, documentKeys(name, sum), func(key string) error {
		e, err := parseEntry(key)
		if err != nil || !choose(e) {
			return err
		}
		l, ok, err := s.head(ctx, e.id())
		if err != nil || !ok || l.DocumentID != documentID || entryOf(&l) != e {
			return err
		}
		return visit(l)
	})
}

// lock holds the lock of a document. It is given back by what it returns.
func (s *Store) lock(digest uint64) (unlock func()) {
	s.writing.RLock()
	m := &s.documents[digest%uint64(len(s.documents))]
	m.Lock()
	return func() {
		m.Unlock()
		s.writing.RUnlock()
	}
}
