package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/projectors"
)

// Redriver is a projector whose dead letters can be tried again. It is a *projectors.Runner or a *stream.Projector.
type Redriver interface {
	// Redrive tries letters of this projector again, in their order. Those that are taken are gone when it returns.
	Redrive(ctx context.Context, letters []deadletter.Letter) error
}

const (
	kindRedrive    = "redrive"
	kindDiscard    = "discard"
	lettersSubject = "dead letters"
	redrivePath    = "/v1/deadletters/redrive"
	discardPath    = "/v1/deadletters/discard"
)

// lettersWork is what is done to dead letters, and how far it is.
type lettersWork struct {
	State      string           `json:"state" enum:"planned,running,done,failed"`
	Kind       string           `json:"kind" enum:"redrive,discard"`
	Letters    int              `json:"letters" doc:"That were chosen."`
	Done       int              `json:"done" doc:"That are gone: the sink took the document, or the letter was discarded."`
	Left       int              `json:"left" doc:"Of a redrive: that were tried and refused again."`
	Started    time.Time        `json:"started,omitzero"`
	Finished   time.Time        `json:"finished,omitzero"`
	Projectors []projectorsWork `json:"projectors" doc:"In the order in which they are done."`
	Error      string           `json:"error,omitempty"`
}

// projectorsWork is what is done to the letters of one projector.
type projectorsWork struct {
	Projector string   `json:"projector"`
	Letters   int      `json:"letters"`
	Done      int      `json:"done"`
	Left      int      `json:"left"`
	Action    string   `json:"action" doc:"What is, or would be, done to each."`
	Refusal   string   `json:"refusal,omitempty" doc:"Why they are not tried, and what can be done."`
	Offsets   []string `json:"offsets" doc:"Of the first letters, in the order in which they are tried."`
	IDs       []string `json:"ids" doc:"Of the same letters."`
}

// named is how many letters are named of each projector.
const named = 20

type lettersWorkOutput struct {
	Status   int
	Location string `header:"Location" doc:"Where to ask how far it is."`
	Body     lettersWork
}

type discardOneOutput struct{}

func (s *Server) registerLetterWork(api huma.API) {
	redrive := get("redrive-deadletters", redrivePath, "dead letters", "Try dead letters again, in the order of their offsets", 404, 409, 422)
	redrive.Method, redrive.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, redrive, s.startRedrive)
	huma.Register(api, get("get-redrive", redrivePath, "dead letters", "How far the redrive that was started last is", 404),
		func(context.Context, *struct{}) (*lettersWorkOutput, error) { return s.getLetterWork(kindRedrive) })
	one := get("redrive-deadletter", "/v1/deadletters/{id}/redrive", "dead letters", "Try one dead letter again", 404, 409, 422)
	one.Method, one.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, one, func(ctx context.Context, in *redriveOneInput) (*lettersWorkOutput, error) {
		return s.startRedrive(ctx, &chooseInput{ID: in.ID, DryRun: in.DryRun})
	})
	discard := get("discard-deadletters", "/v1/deadletters", "dead letters", "Discard dead letters: what they are about stays as it is in the sink", 404, 409, 422)
	discard.Method, discard.DefaultStatus = http.MethodDelete, http.StatusAccepted
	huma.Register(api, discard, s.startDiscard)
	huma.Register(api, get("get-discard", discardPath, "dead letters", "How far the discarding that was started last is", 404),
		func(context.Context, *struct{}) (*lettersWorkOutput, error) { return s.getLetterWork(kindDiscard) })
	discardOne := get("discard-deadletter", "/v1/deadletters/{id}", "dead letters", "Discard one dead letter", 404)
	discardOne.Method, discardOne.DefaultStatus = http.MethodDelete, http.StatusNoContent
	huma.Register(api, discardOne, func(ctx context.Context, in *LetterInput) (*discardOneOutput, error) {
		ok, err := s.letters.Discard(ctx, in.ID)
		switch {
		case err != nil:
			return nil, s.lettersProblem(err)
		case !ok:
			return nil, noLetter(in.ID)
		}
		s.log.Info("dead letter discarded", "id", in.ID)
		return &discardOneOutput{}, nil
	})
}

type redriveOneInput struct {
	LetterInput
	DryRun bool `query:"dry_run" doc:"Only say what would be done."`
}

func (s *Server) startRedrive(ctx context.Context, in *chooseInput) (*lettersWorkOutput, error) {
	f, err := s.choose(ctx, in)
	if err != nil {
		return nil, err
	}
	work, err := s.planLetters(ctx, kindRedrive, f)
	if err != nil {
		return nil, err
	}
	refused := slices.IndexFunc(work.Projectors, func(p projectorsWork) bool { return p.Refusal != "" })
	if refused >= 0 && len(work.Projectors) == 1 && !in.DryRun {
		return nil, problem(http.StatusConflict, "nothing was tried: %s", work.Projectors[refused].Refusal)
	}
	if in.DryRun {
		return &lettersWorkOutput{Status: http.StatusOK, Body: *work}, nil
	}
	return s.startLetters(*work, redrivePath, func(ctx context.Context, j *job) error { return s.redrive(ctx, j, f) })
}

func (s *Server) startDiscard(ctx context.Context, in *chooseInput) (*lettersWorkOutput, error) {
	f, err := s.choose(ctx, in)
	if err != nil {
		return nil, err
	}
	work, err := s.planLetters(ctx, kindDiscard, f)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return &lettersWorkOutput{Status: http.StatusOK, Body: *work}, nil
	}
	return s.startLetters(*work, discardPath, func(ctx context.Context, j *job) error { return s.discard(ctx, j, f) })
}

func (s *Server) startLetters(work lettersWork, path string, run func(context.Context, *job) error) (*lettersWorkOutput, error) {
	j, started := s.jobs.start(jobPlan{
		kind: work.Kind, subject: lettersSubject, besides: []string{kindRedrive, kindDiscard}, unit: "letters", detail: work, run: run,
	})
	if !started {
		return nil, problem(http.StatusConflict, "dead letters are being redriven or discarded already; see %s and %s", redrivePath, discardPath)
	}
	return &lettersWorkOutput{Status: http.StatusAccepted, Location: path, Body: lettersState(j)}, nil
}

func (s *Server) getLetterWork(kind string) (*lettersWorkOutput, error) {
	j := s.jobs.get(kind, lettersSubject)
	if j == nil {
		return nil, problem(http.StatusNotFound, "no %s was started since the daemon was", kind)
	}
	return &lettersWorkOutput{Status: http.StatusOK, Body: lettersState(j)}, nil
}

func lettersState(j *job) lettersWork {
	status, detail := j.look()
	work := detail.(lettersWork)
	work.State, work.Started, work.Finished, work.Error = string(status.State), status.Started, status.Finished, status.Error
	return work
}

// planLetters says what would be done to the letters that are chosen, in the order in which it would be.
func (s *Server) planLetters(ctx context.Context, kind string, f deadletter.Filter) (*lettersWork, error) {
	work := &lettersWork{State: "planned", Kind: kind, Projectors: []projectorsWork{}}
	err := s.letters.List(ctx, f, func(l deadletter.Letter) error {
		if n := len(work.Projectors); n == 0 || work.Projectors[n-1].Projector != l.Projector {
			p := projectorsWork{Projector: l.Projector, Action: "removed; the sink keeps what it has", Offsets: []string{}, IDs: []string{}}
			if kind == kindRedrive {
				_, p.Action, p.Refusal = s.redriver(&l)
			}
			work.Projectors = append(work.Projectors, p)
		}
		p := &work.Projectors[len(work.Projectors)-1]
		if p.Letters++; p.Letters <= named {
			p.Offsets, p.IDs = append(p.Offsets, l.Offset.String()), append(p.IDs, l.ID)
		}
		work.Letters++
		return nil
	})
	if err != nil {
		return nil, s.lettersProblem(err)
	}
	if work.Letters == 0 && !f.All() {
		return nil, problem(http.StatusNotFound, "no dead letter is as the filter says; see: lanternist deadletters list")
	}
	return work, nil
}

var ofGeneration = regexp.MustCompile(`^(.*)-g([0-9]+)$`)

// redriver finds who can try a letter again, and says what that means; or why nobody can.
func (s *Server) redriver(l *deadletter.Letter) (r Redriver, action, refusal string) {
	p, err := s.projector(l.Projector)
	if err == nil {
		if r, ok := p.(Redriver); ok {
			if l.View == "" {
				return r, "handed on again, with the later events of its key that wait for it", ""
			}
			return r, "composed as the document is now, and written", ""
		}
	}
	discard := "discard its letters: lanternist deadletters discard --projector " + l.Projector
	if m := ofGeneration.FindStringSubmatch(l.Projector); m != nil {
		if _, err := s.projector(m[1]); err == nil {
			return nil, "", fmt.Sprintf("generation %s of %s is not the one that is live: go back to it, and its letters can be tried (lanternist rebuild --rollback %s), "+
				"or %s", m[2], m[1], l.View, discard)
		}
	}
	if refused, ok := errors.AsType[*Problem](err); ok && refused.Status != http.StatusNotFound {
		return nil, "", refused.Detail
	}
	return nil, "", fmt.Sprintf("there is no projector %s any more, its view or generation is gone; %s", l.Projector, discard)
}

// redriveBatch is how many letters are tried at once.
const redriveBatch = 100

// redrive tries the letters again, projector by projector, in the order of their offsets. Those that are parked again meanwhile are not
// tried twice.
func (s *Server) redrive(ctx context.Context, j *job, f deadletter.Filter) error {
	began := time.Now()
	for {
		var some []deadletter.Letter
		err := s.letters.List(ctx, f, func(l deadletter.Letter) error {
			f.After = l.ID
			if l.Last.After(began) {
				return nil
			}
			if len(some) > 0 && some[0].Projector != l.Projector {
				f.After = some[len(some)-1].ID
				return errEnough
			}
			if some = append(some, l); len(some) == redriveBatch {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		if len(some) == 0 {
			return s.redriven(j)
		}
		r, _, refusal := s.redriver(&some[0])
		if refusal != "" {
			j.letters(some[0].Projector, 0, 0, refusal)
			continue
		}
		err = r.Redrive(ctx, some)
		done, left, counting := s.settled(ctx, some)
		if err != nil { // some of those that are left may not have been tried
			left = 0
		}
		j.letters(some[0].Projector, done, left, "")
		if errors.Is(err, projectors.ErrNotRunning) {
			err = fmt.Errorf("projector %s does not run, or has no live generation; its letters are where they were; see: lanternist status", some[0].Projector)
		}
		if err := errors.Join(err, counting); err != nil {
			return err
		}
	}
}

var errEnough = errors.New("enough")

// settled counts which of the letters are gone.
func (s *Server) settled(ctx context.Context, some []deadletter.Letter) (done, left int, err error) {
	for i := range some {
		_, parked, err := s.letters.Parked(ctx, some[i].Projector, some[i].DocumentID)
		if err != nil {
			return done, left, err
		}
		if parked {
			left++
		} else {
			done++
		}
	}
	return done, left, nil
}

// redriven is the end of a redrive: an error when letters are left that nobody can try.
func (s *Server) redriven(j *job) error {
	var refusals []string
	for _, p := range lettersState(j).Projectors {
		if p.Refusal != "" {
			refusals = append(refusals, p.Refusal)
		}
	}
	if len(refusals) > 0 {
		return errors.New(strings.Join(refusals, "\n"))
	}
	return nil
}

func (s *Server) discard(ctx context.Context, j *job, f deadletter.Filter) error {
	total := lettersState(j).Letters
	n, err := s.letters.DiscardAll(ctx, f, nil, func(n int) {
		j.change(func(detail any) any {
			work := detail.(lettersWork)
			work.Done = n
			return work
		})
		j.progress(int64(n), int64(max(n, total)))
	})
	s.log.Info("dead letters discarded", "letters", n)
	return err
}

// letters notes what became of some letters of a projector.
func (j *job) letters(projector string, done, left int, refusal string) {
	var tried, total int
	j.change(func(detail any) any {
		work := detail.(lettersWork)
		work.Projectors = slices.Clone(work.Projectors)
		for i := range work.Projectors {
			if p := &work.Projectors[i]; p.Projector == projector {
				p.Done, p.Left, p.Refusal = p.Done+done, p.Left+left, refusal
			}
		}
		work.Done, work.Left = work.Done+done, work.Left+left
		tried, total = work.Done+work.Left, work.Letters
		return work
	})
	j.progress(int64(tried), int64(max(tried, total)))
}
