package search

import (
	"context"
	"fmt"
	"sync"

	"github.com/lanternist/lanternist/views"
)

// home is what the stores of one view have in common, by whichever definition each is.
//
// A query is worked out by one definition: the names of exact fields, the types of values. On an index of another one it would
// miss documents. So each search is done by the store that the live index belongs to, and again when another index has become
// the live one meanwhile.
type home struct {
	visible   *visibility
	promoting sync.Mutex

	mu      sync.Mutex
	stores  map[string]*Store // by the hash of their definition
	hashes  map[string]string // of definitions, by index
	live    *Store            // of the live index; nil when it is not known
	asked   int               // visibility.moves when live was found out
	towards string            // hash of the definition that is being promoted
}

func newHome(visible *visibility) *home {
	return &home{visible: visible, stores: map[string]*Store{}, hashes: map[string]string{}}
}

// Redefined returns the home of the same documents by another definition of the view. The two know of each other: searches
// through either are worked out by the definition that the live generation is of.
func (s *Store) Redefined(view *views.View) *Store {
	other := newStore(s.client, view.Name(), view.Fields(), view.Search())
	other.home = s.home
	other.known(view.Hash())
	return other
}

// known tells the home the hash of the store's definition.
func (s *Store) known(hash string) {
	s.hash = hash
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores[hash] = s
}

// alone says that the view has had one definition only.
func (h *home) alone() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.stores) < 2
}

// of is the store of a definition; nil when there is none.
func (h *home) of(hash string) *Store {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stores[hash]
}

// saw notes of which definition an index is.
func (h *home) saw(index, hash string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hashes[index] = hash
}

// definition is the hash of the definition that an index is of; "" when it is not known.
func (h *home) definition(index string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hashes[index]
}

// begin tells that the alias begins to move to an index of a store.
func (h *home) begin(s *Store, index string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.towards = s.hash
	h.visible.move(index)
}

// end tells that the alias has stopped moving; where it is, when err is nil.
func (h *home) end(s *Store, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.visible.move("")
	h.live = nil
	if err == nil {
		h.live, h.asked = s, h.visible.moves()
	}
}

// reader is the store that searches are done by now, and the number of moves for which that holds. While the alias moves
// to an index of another definition it waits.
func (h *home) reader(ctx context.Context, s *Store) (*Store, int, error) {
	for {
		h.mu.Lock()
		moves, settled := h.visible.state()
		live, alone := h.live, len(h.stores) < 2
		known := live != nil && h.asked == moves
		if settled != nil && live != nil && live.hash == h.towards {
			known, settled = true, nil // from one index of the definition to another
		}
		h.mu.Unlock()
		switch {
		case alone:
			return s, moves, nil
		case settled != nil:
			select {
			case <-settled:
			case <-ctx.Done():
				return nil, 0, ctx.Err()
			}
		case known:
			return live, moves, nil
		default:
			if err := h.ask(ctx, s, moves); err != nil {
				return nil, 0, err
			}
		}
	}
}

// ask asks Elasticsearch which index is live.
func (h *home) ask(ctx context.Context, s *Store, moves int) error {
	states, err := s.states(ctx)
	if err != nil {
		return err
	}
	live := s // nothing is live, or what is live has a definition that nobody knows: the error or the answer is s's
	for _, state := range states {
		if _, ok := state.Aliases[s.names.alias]; !ok {
			continue
		}
		if owner := h.of(state.Mappings.Meta.Lanternist.Hash); owner != nil {
			live = owner
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now, _ := h.visible.state(); now == moves {
		h.live, h.asked = live, moves
	}
	return nil
}

// ofCursor is the store that the pages of a cursor are searched by.
func (h *home) ofCursor(s *Store, text string) (*Store, error) {
	c, err := readCursor(text)
	if err != nil || c.Definition == "" || c.Definition == s.hash {
		return s, nil //nolint:nilerr // decodeCursor says it
	}
	if owner := h.of(c.Definition); owner != nil {
		return owner, nil
	}
	return nil, fmt.Errorf("%w: the view's definition has changed", ErrCursorExpired)
}
