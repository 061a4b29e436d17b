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
	err := b.runner.repeat(ctx, "park document "+d.ID, func() error { return b.runner.letters.Park(ctx, letter) })
	if err != nil {
		return err
	}
	b.runner.counters.parked.Add(1)
	b.runner.log.Error("document parked", "document", d.ID, "offset", version, "generation", b.generation, "attempts", attempts, "reason", reason)
	if version == 0 {
		return nil
	}
	return b.resolve(ctx, d.ID, version-1)
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
		err := r.visitLetters(ctx, r.generationName(b.generation), func(l deadletter.Letter) error {
			return r.moveLetter(ctx, l, r.cfg.Name)
		})
		if err != nil {
			return err
		}
		return r.visitLetters(ctx, r.cfg.Name, func(l deadletter.Letter) error {
			if l.Generation == b.generation {
				return nil
			}
			if _, held := r.shelf.get(l.Generation); held {
				return r.moveLetter(ctx, l, r.generationName(l.Generation))
			}
			_, err := r.letters.Discard(ctx, l.ID)
			return err
		})
	})
}

// moveLetter files a letter under another name. A crash between leaves it under both.
func (r *Runner) moveLetter(ctx context.Context, l deadletter.Letter, name string) error {
	id := l.ID
	l.Projector = name
	if err := r.letters.Park(ctx, l); err != nil {
		return err
	}
	r.status.course.within()
	_, err := r.letters.Discard(ctx, id)
	return err
}

// discard removes the letters of a generation that is gone, or is being given up.
func (b letterbox) discard(ctx context.Context) error {
	r := b.runner
	return r.visitLetters(ctx, r.generationName(b.generation), func(l deadletter.Letter) error {
		_, err := r.letters.Discard(ctx, l.ID)
		return err
	})
}

func (r *Runner) visitLetters(ctx context.Context, name string, visit func(deadletter.Letter) error) error {
	if r.letters.Count(name) == 0 {
		return nil
	}
	return r.letters.List(ctx, deadletter.Filter{Projector: name}, visit)
}
