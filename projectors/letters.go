package projectors

import (
	"context"
	"fmt"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

// letterbox is where one generation's refused documents go. While a generation is being built its letters are kept under
// a name of its own, so that they and those of the live generation cannot resolve each other; adopt joins them.
type letterbox struct {
	runner     *Runner
	name       string // the projector's, as letters name it
	generation int
}

func (r *Runner) letterbox(generation int, building bool) letterbox {
	box := letterbox{runner: r, name: r.cfg.Name, generation: generation}
	if building {
		box.name = r.generationName(generation)
	}
	return box
}

// park keeps a document that was refused for good, in place of older letters of it.
func (b letterbox) park(ctx context.Context, d views.Document, version event.Offset, reason error, attempts int) error {
	letter := deadletter.Letter{
		Projector: b.name, View: b.runner.wanted.Load().View.Name(), Generation: b.generation, DocumentID: d.ID,
		Offset: version, Payload: d.Body, Reason: reason.Error(), Class: Class(reason).String(), Attempts: attempts,
	}
	err := b.runner.repeat(ctx, "park document "+d.ID, func() error { return b.runner.letters.Supersede(ctx, letter) })
	if err != nil {
		return err
	}
	b.runner.counters.parked.Add(1)
	b.runner.log.Error("document parked", "document", d.ID, "offset", version, "generation", b.generation, "attempts", attempts, "reason", reason)
	return nil
}

// empty says that there is nothing to resolve.
func (b letterbox) empty() bool { return b.runner.letters.Count(b.name) == 0 }

// resolve removes the document's letters up to a version that was applied, or parked again.
func (b letterbox) resolve(ctx context.Context, documentID string, version event.Offset) error {
	if b.empty() {
		return nil
	}
	return b.runner.repeat(ctx, "resolve letters of "+documentID, func() error {
		return b.runner.letters.Resolve(ctx, b.name, documentID, version)
	})
}

// adopt makes the letters of a generation that was being built, or was not live for a while, those of the projector. Those of
// another generation are kept under its own name for as long as it is held: what they are about is still missing there, while
// this one has it, or a letter of its own.
func (b letterbox) adopt(ctx context.Context) error {
	r := b.runner
	return r.repeat(ctx, fmt.Sprintf("adopt letters of generation %d", b.generation), func() error {
		if err := r.moveLetters(ctx, r.generationName(b.generation), r.cfg.Name, nil); err != nil {
			return err
		}
		others := map[int]bool{}
		err := r.visitLetters(ctx, r.cfg.Name, func(l deadletter.Letter) error {
			others[l.Generation] = l.Generation != b.generation
			return nil
		})
		if err != nil {
			return err
		}
		for generation, other := range others {
			if !other {
				continue
			}
			of := func(l *deadletter.Letter) bool { return l.Generation == generation }
			if _, held := r.shelf.get(generation); held {
				err = r.moveLetters(ctx, r.cfg.Name, r.generationName(generation), of)
			} else {
				_, err = r.letters.DiscardAll(ctx, deadletter.Filter{Projector: r.cfg.Name}, of, nil)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// moveLetters files letters under another name.
func (r *Runner) moveLetters(ctx context.Context, from, to string, which func(*deadletter.Letter) bool) error {
	if r.letters.Count(from) == 0 {
		return nil
	}
	_, err := r.letters.Move(ctx, deadletter.Filter{Projector: from}, to, which)
	r.status.course.within()
	return err
}

// discard removes the letters of a generation that is gone, or is being given up.
func (b letterbox) discard(ctx context.Context) error {
	r := b.runner
	if r.letters.Count(r.generationName(b.generation)) == 0 {
		return nil
	}
	_, err := r.letters.DiscardAll(ctx, deadletter.Filter{Projector: r.generationName(b.generation)}, nil, nil)
	return err
}

func (r *Runner) visitLetters(ctx context.Context, name string, visit func(deadletter.Letter) error) error {
	if r.letters.Count(name) == 0 {
		return nil
	}
	return r.letters.List(ctx, deadletter.Filter{Projector: name}, visit)
}
