package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/lanternist/lanternist/deadletter"
)

// LetterFilter chooses dead letters: those for which all that is given holds.
type LetterFilter struct {
	Projector string    `query:"projector" doc:"Only those of this projector."`
	View      string    `query:"view" doc:"Only those of this view."`
	Document  string    `query:"document" doc:"Only those of this document, or event."`
	Class     string    `query:"class" doc:"Only those of this class: permanent, or waiting behind one of the same key."`
	Reason    string    `query:"reason" maxLength:"1024" doc:"Only those with this text in their reason."`
	Since     time.Time `query:"since" doc:"Only those parked then or later."`
	Until     time.Time `query:"until" doc:"Only those parked then or before."`
}

func (f *LetterFilter) filter() deadletter.Filter {
	return deadletter.Filter{
		Projector: f.Projector, View: f.View, DocumentID: f.Document, Class: f.Class, Reason: f.Reason, Since: f.Since, Until: f.Until,
	}
}

// chooseInput says which letters something is done to.
type chooseInput struct {
	ID string `query:"id" doc:"Only this one."`
	LetterFilter
	All    bool `query:"all" doc:"All of them. Needed when nothing else is given."`
	DryRun bool `query:"dry_run" doc:"Only say what would be done."`
}

// choose reads which letters are meant. What is wrong is said before anything is done.
func (s *Server) choose(ctx context.Context, in *chooseInput) (deadletter.Filter, error) {
	f := in.filter()
	f.ID = in.ID
	if err := f.Validate(); err != nil {
		return f, problem(http.StatusUnprocessableEntity, "%v; see: lanternist deadletters list", err)
	}
	switch {
	case f.All() && !in.All:
		return f, problem(http.StatusUnprocessableEntity, "say which dead letters: an id, a filter, or all=true; see: lanternist deadletters list")
	case !f.All() && in.All:
		return f, problem(http.StatusUnprocessableEntity, "all=true and a filter exclude each other; leave one of them out")
	case f.ID != "":
		return f, s.chooseOne(ctx, f)
	}
	return f, nil
}

// chooseOne sees to it that a letter that is named is there, and is what else was said of it.
func (s *Server) chooseOne(ctx context.Context, f deadletter.Filter) error {
	l, ok, err := s.letters.Get(ctx, f.ID)
	switch {
	case err != nil:
		return s.lettersProblem(err)
	case !ok:
		return noLetter(f.ID)
	case f.Projector != "" && f.Projector != l.Projector:
		return problem(http.StatusUnprocessableEntity, "dead letter %s is of projector %s, not of %s; see: lanternist deadletters show %s", f.ID, l.Projector, f.Projector, f.ID)
	case f.View != "" && f.View != l.View:
		return problem(http.StatusUnprocessableEntity, "dead letter %s is of view %q, not of %s; see: lanternist deadletters show %s", f.ID, l.View, f.View, f.ID)
	}
	return nil
}

func noLetter(id string) error {
	return problem(http.StatusNotFound, "there is no dead letter %q: it was resolved or discarded, or never was; see: lanternist deadletters list", id)
}

func (s *Server) lettersProblem(err error) error {
	s.log.Error("dead letters not read", "error", err)
	return problem(http.StatusInternalServerError, "the dead letters cannot be read: %v; nothing was changed", err)
}
