package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/lanternist/lanternist/internal/jsondiff"
)

// How often documents are looked at again before those that never stood still are given up. Each time is a point of its
// own: one of the source is a copy of its tables.
const (
	settleMirror = 10
	settleSource = 4
)

// finding is a document of which it is certain that it is not as it should be.
type finding struct {
	id         string
	difference Difference // without fields and note after the first shownMax
}

// conclude looks again at what differed, repairs what is wrong, and counts.
func (r *run) conclude(ctx context.Context) error {
	found, err := r.settle(ctx, true)
	if err != nil {
		return err
	}
	left := make([]map[string]bool, len(r.sinks)) // by sink: what a repair did not mend
	if r.options.Repair {
		if left, err = r.repair(ctx, found); err != nil {
			return err
		}
	}
	for i := range r.sinks {
		r.count(i, found[i], left[i])
	}
	return nil
}

// count fills in the result of a sink.
func (r *run) count(sink int, found []finding, left map[string]bool) {
	result := &r.result.Sinks[sink]
	for _, f := range found {
		switch f.difference.Kind {
		case Missing:
			result.Missing++
		case Extra:
			result.Extra++
		case Different:
			result.Different++
		}
		f.difference.Repaired = r.options.Repair && !left[f.id]
		if f.difference.Repaired {
			result.Repaired++
		}
		if len(result.Differences) < shownMax {
			result.Differences = append(result.Differences, f.difference)
		}
	}
	slices.SortFunc(result.Differences, func(a, b Difference) int { return compareIDs(a.ID, b.ID) })
}

// settle looks at the suspects at newer points until it is certain of each. It is of one that is wrong at two points in
// a row between which what it should be did not change: what was read at the first was read between the two.
func (r *run) settle(ctx context.Context, first bool) ([][]finding, error) {
	found := make([][]finding, len(r.sinks))
	rounds := settleMirror
	if r.options.Against == AgainstSource {
		rounds = settleSource
	}
	for range rounds {
		if r.settled() {
			break
		}
		if err := r.again(ctx, found); err != nil {
			return nil, err
		}
	}
	for i := range r.sinks {
		if first {
			r.result.Sinks[i].Unsettled = int64(len(r.suspects[i]))
		}
	}
	return found, nil
}

func (r *run) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.suspects {
		n += len(s)
	}
	r.progress.Suspects = int64(n)
	return n == 0
}

// again looks once more at each suspect, at a new point.
func (r *run) again(ctx context.Context, found [][]finding) error {
	p, err := r.at(ctx)
	if err != nil {
		return err
	}
	before := make([]map[string]truth, len(r.sinks))
	total := 0
	for i := range r.suspects {
		before[i] = maps.Clone(r.suspects[i])
		total += len(before[i])
	}
	r.enter(Settling, int64(total))
	err = r.look(ctx, p, func(hand func(task) error) error {
		for i := range before {
			for id := range before[i] {
				if err := hand(r.task(id, i)); err != nil {
					return err
				}
			}
		}
		return nil
	}, func(t task, sink int, s *sight) error {
		wrong, now := s.wrong(), s.truth()
		var d Difference
		if wrong && now == before[sink][t.id] {
			d = s.difference(t.id)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.step()
		switch {
		case !wrong:
			delete(r.suspects[sink], t.id)
		case d.Kind == "":
			r.suspects[sink][t.id] = now
		default:
			delete(r.suspects[sink], t.id)
			if len(found[sink]) >= shownMax {
				d.Fields, d.Note = nil, ""
			}
			found[sink] = append(found[sink], finding{id: t.id, difference: d})
		}
		return nil
	})
	return errors.Join(err, p.Close())
}

// difference describes what is wrong.
func (s *sight) difference(id string) Difference {
	d := Difference{ID: id, Kind: Different, Note: s.held.Foreign}
	switch {
	case s.want == nil:
		d.Kind = Extra
	case s.held.Foreign != "":
	case s.held.Body == nil:
		d.Kind = Missing
	default:
		d.Fields = jsondiff.Fields(s.held.Body, s.want)
	}
	return d
}

// repair has what is wrong written as it should be, and looks at it again: it returns what is still wrong.
func (r *run) repair(ctx context.Context, found [][]finding) ([]map[string]bool, error) {
	left := make([]map[string]bool, len(r.sinks))
	total := 0
	for i := range found {
		total += len(found[i])
	}
	r.enter(Repairing, int64(total))
	done := 0
	for i := range r.sinks {
		left[i] = map[string]bool{}
		r.suspects[i] = map[string]truth{}
		for part := range slices.Chunk(found[i], refreshSize) {
			ids := make([]string, len(part))
			for k, f := range part {
				ids[k] = f.id
				r.suspects[i][f.id] = unknown
			}
			if err := r.sinks[i].Projector.Refresh(ctx, ids); err != nil {
				return nil, fmt.Errorf("repair: %w", err)
			}
			done += len(part)
			r.done(int64(done))
		}
	}
	still, err := r.settle(ctx, false)
	if err != nil {
		return nil, err
	}
	for i := range still {
		for _, f := range still[i] {
			left[i][f.id] = true
		}
		for id := range r.suspects[i] { // not seen to be right
			left[i][id] = true
		}
	}
	return left, nil
}

// compareIDs orders ids as a person does: 9 before 10.
func compareIDs(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
