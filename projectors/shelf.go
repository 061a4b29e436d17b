package projectors

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lanternist/lanternist/event"
)

// GenerationStatus is what is known of one generation that the sink holds.
type GenerationStatus struct {
	Number  int       `json:"number"`
	Live    bool      `json:"live"` // readers see it
	Created time.Time `json:"created"`
	Current bool      `json:"current"` // built by the view's present definition
	// Offset and LSN are of its checkpoint: how far it is. One that is neither live nor being built stays there.
	Offset event.Offset `json:"offset"`
	LSN    string       `json:"lsn"`
	// Refusal says why Rollback would not go back to it; "" when it would, and of the live one.
	Refusal string `json:"refusal,omitempty"`
}

// shelved is a generation as the runner last saw it.
type shelved struct {
	info Info
	cp   Checkpoint // the zero one when there is none
	// known says that the generation was looked at: the zero value of cp then says that there is no checkpoint.
	known bool
}

// shelf remembers what the sink holds, so that nobody has to ask it. It is safe for concurrent use.
type shelf struct {
	mu   sync.Mutex
	held map[int]shelved
}

// reset begins anew with what the sink has listed.
func (s *shelf) reset(infos []Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = map[int]shelved{}
	for _, info := range infos {
		s.held[info.Number] = shelved{info: info}
	}
}

func (s *shelf) put(info Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = map[int]shelved{}
	}
	s.held[info.Number] = shelved{info: info}
}

// meet notes a generation that has come up since the sink was asked last: it was asked for by a process that is dead.
func (s *shelf) meet(info Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, held := s.held[info.Number]; !held {
		s.held[info.Number] = shelved{info: info}
	}
}

func (s *shelf) remove(number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, number)
}

// saved notes the checkpoint that the sink has.
func (s *shelf) saved(number int, cp Checkpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.held[number]; ok {
		g.cp, g.known = cp, true
		g.cp.Served = cp.Served || g.info.Live
		s.held[number] = g
	}
}

// promoted notes which generation readers see.
func (s *shelf) promoted(number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, g := range s.held {
		g.info.Live = n == number
		s.held[n] = g
	}
}

func (s *shelf) get(number int) (shelved, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.held[number]
	return g, ok
}

// live is the generation that readers see; false when there is none.
func (s *shelf) live() (shelved, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.held {
		if g.info.Live {
			return g, true
		}
	}
	return shelved{}, false
}

// others lists the generations that readers do not see, the one that was live last first: nothing is written to it any more,
// so its checkpoint tells.
func (s *shelf) others() []shelved {
	all := slices.DeleteFunc(s.list(), func(g shelved) bool { return g.info.Live })
	slices.SortFunc(all, func(a, b shelved) int {
		return cmp.Or(cmp.Compare(b.cp.Offset, a.cp.Offset), b.cp.Time.Compare(a.cp.Time), cmp.Compare(b.info.Number, a.info.Number))
	})
	return all
}

// list is in ascending order of number.
func (s *shelf) list() []shelved {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.held), func(a, b shelved) int { return cmp.Compare(a.info.Number, b.info.Number) })
}

// refusal is why readers cannot be sent to a generation again, as an errBuild, as far as that is known without asking anyone.
func (r *Runner) refusal(info Info, cp Checkpoint) error {
	switch {
	case !cp.Served:
		return errBuild{"was never live, or could not be looked at"}
	case !r.sameHistory(info.Epoch):
		return errBuild{fmt.Sprintf("is of epoch %q, the source is of %q", info.Epoch, r.cfg.Epoch)}
	}
	if known := r.knownDefinition(info); known.def == nil {
		return errBuild{refusedDefinition(known.refusal)}
	}
	if err := r.beforeGap(cp); err != nil {
		return err
	}
	return r.holds(cp)
}

// refusedDefinition says of a generation why it cannot be gone back to for its definition.
func refusedDefinition(reason string) string {
	return "was built by another definition of the view, and cannot go on by it (" + cmp.Or(reason, "it was not looked at") +
		"): to have that again, put the old definition back into the view's file, by which the view is then built"
}

// generationStatuses lists the generations in ascending order of number. It does no I/O.
func (r *Runner) generationStatuses() []GenerationStatus {
	var all []GenerationStatus
	wanted := r.wanted.Load()
	for _, g := range r.shelf.list() {
		s := GenerationStatus{
			Number: g.info.Number, Live: g.info.Live, Created: g.info.Created, Current: g.info.Hash == wanted.hash,
			Offset: g.cp.Offset, LSN: g.cp.LSN.String(),
		}
		if err := r.refusal(g.info, g.cp); err != nil && !s.Live {
			s.Refusal = err.Error()
		}
		all = append(all, s)
	}
	return all
}
