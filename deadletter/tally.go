package deadletter

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lanternist/lanternist/control"
)

// Depth is how many letters a projector has of one class.
type Depth struct {
	Projector string    `json:"projector"`
	Class     string    `json:"class"`
	Letters   int       `json:"letters"`
	Oldest    time.Time `json:"oldest" doc:"When the oldest was parked."`
}

// Depths is how many letters there are, ordered by projector and class. It reads keys when the oldest letter has gone since it was
// called last, else it does no I/O.
func (s *Store) Depths(ctx context.Context) ([]Depth, error) {
	for _, projector := range s.tallies.stale() {
		if err := s.recount(ctx, projector); err != nil {
			return nil, fmt.Errorf("count dead letters: %w", err)
		}
	}
	return s.tallies.depths()
}

// recount counts the letters of a projector again. Nothing is written meanwhile.
func (s *Store) recount(ctx context.Context, projector string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.tallies.doubtful(projector) {
		if err := s.repairProjector(ctx, projector); err != nil {
			return err
		}
	}
	fresh := map[string]*tally{}
	err := control.ListKeys(ctx, s.control, documentPrefix+projector+"/", func(key string) error {
		e, err := parseEntry(key)
		if err == nil {
			count(fresh, e)
		}
		return err
	})
	if err == nil {
		s.tallies.set(projector, fresh)
	}
	return err
}

// tally counts letters of one projector and class.
type tally struct {
	letters int
	oldest  int64 // microseconds
}

func count(classes map[string]*tally, e entry) {
	t := classes[e.class]
	if t == nil {
		t = &tally{oldest: e.time}
		classes[e.class] = t
	}
	t.letters++
	t.oldest = min(t.oldest, e.time)
}

// tallies counts letters by projector and class, both escaped. Its methods are safe for concurrent use.
type tallies struct {
	mu    sync.RWMutex
	of    map[string]map[string]*tally
	again map[string]bool // to be counted again: true when a write failed, and it is not known what is there
}

func newTallies() tallies {
	return tallies{of: map[string]map[string]*tally{}, again: map[string]bool{}}
}

func (t *tallies) add(e entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	classes := t.of[e.projector]
	if classes == nil {
		classes = map[string]*tally{}
		t.of[e.projector] = classes
	}
	count(classes, e)
}

func (t *tallies) remove(e entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	classes := t.of[e.projector]
	c := classes[e.class]
	if c == nil {
		return // it is in doubt, and counted again
	}
	if c.letters--; c.letters <= 0 {
		delete(classes, e.class)
		if len(classes) == 0 {
			delete(t.of, e.projector)
		}
		return
	}
	if e.time <= c.oldest {
		t.again[e.projector] = t.again[e.projector] || false
	}
}

// doubt says that the number of a projector's letters is not known for sure.
func (t *tallies) doubt(projector string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.again[projector] = true
}

func (t *tallies) doubtful(projector string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.again[projector]
}

// stale are the projectors that have to be counted again.
func (t *tallies) stale() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var all []string
	for projector := range t.again {
		all = append(all, projector)
	}
	return all
}

func (t *tallies) set(projector string, classes map[string]*tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.again, projector)
	delete(t.of, projector)
	if len(classes) > 0 {
		t.of[projector] = classes
	}
}

// any says that the projector may have letters.
func (t *tallies) any(projector string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.of[projector]) > 0 || t.again[projector]
}

func (t *tallies) count(projector string) (n int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, c := range t.of[projector] {
		n += c.letters
	}
	return n
}

func (t *tallies) depths() ([]Depth, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var all []Depth
	for projector, classes := range t.of {
		for class, c := range classes {
			d := Depth{Letters: c.letters, Oldest: time.UnixMicro(c.oldest).UTC()}
			var err error
			if d.Projector, err = unescape(projector); err != nil {
				return nil, err
			}
			if d.Class, err = unescape(class); err != nil {
				return nil, err
			}
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b Depth) int {
		return cmp.Or(strings.Compare(a.Projector, b.Projector), strings.Compare(a.Class, b.Class))
	})
	return all, nil
}
