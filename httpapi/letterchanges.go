package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/deadletter"
)

type changesInput struct {
	After string `query:"after" maxLength:"64" doc:"next of the answer before. Without it nothing is answered but next: what comes from now on."`
	Wait  string `query:"wait" doc:"When there is nothing yet, how long to wait for it: 10s."`
	LetterFilter
}

type changesOutput struct {
	Body changesBody
}

type changesBody struct {
	Changes []letterChange `json:"changes" doc:"In the order in which they happened."`
	Next    string         `json:"next" doc:"For the next request."`
	Missed  bool           `json:"missed" doc:"There were others before: too many since, or the daemon was started again. The letters themselves tell what there is."`
}

type letterChange struct {
	Kind   deadletter.ChangeKind `json:"kind" enum:"parked,resolved,discarded"`
	Time   time.Time             `json:"time"`
	Letter letter                `json:"letter" doc:"As it is, or was; without its payload."`
}

func (s *Server) registerLetterChanges(api huma.API) {
	huma.Register(api, get("watch-deadletters", "/v1/deadletters/changes", "dead letters", "What becomes of dead letters, as it happens"), s.letterChanges)
}

func (s *Server) letterChanges(ctx context.Context, in *changesInput) (*changesOutput, error) {
	wait := time.Duration(0)
	var err error
	if in.Wait != "" {
		if wait, err = s.waitTime(in.Wait); err != nil {
			return nil, err
		}
	}
	after, known, err := s.changesAfter(in.After)
	if err != nil {
		return nil, err
	}
	f := in.filter()
	out := &changesOutput{Body: changesBody{Changes: []letterChange{}, Missed: in.After != "" && !known}}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		some, last, missed, changed := s.letters.Changes(after)
		out.Body.Missed = out.Body.Missed || missed
		for i := range some {
			if f.Matches(&some[i].Letter) {
				out.Body.Changes = append(out.Body.Changes, letterChange{some[i].Kind, some[i].Time, letterOf(some[i].Letter, false)})
			}
		}
		after = last
		out.Body.Next = fmt.Sprintf("%d-%d", s.started.UnixMicro(), last)
		if len(out.Body.Changes) > 0 || out.Body.Missed || in.After == "" {
			return out, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return out, nil
		case <-ctx.Done():
			return nil, problem(statusClientGone, "the client has gone")
		}
	}
}

// changesAfter reads after=; known says that it is of this daemon's life.
func (s *Server) changesAfter(text string) (after uint64, known bool, err error) {
	_, last, _, _ := s.letters.Changes(^uint64(0))
	if text == "" {
		return last, false, nil
	}
	life, number, ok := strings.Cut(text, "-")
	after, numberErr := strconv.ParseUint(number, 10, 64)
	if _, lifeErr := strconv.ParseInt(life, 10, 64); !ok || numberErr != nil || lifeErr != nil {
		p := badQuery("after", text, "want next of the answer before")
		p.Status = http.StatusUnprocessableEntity
		return 0, false, p
	}
	if life != strconv.FormatInt(s.started.UnixMicro(), 10) {
		return 0, false, nil // whatever this daemon has seen is new to the client
	}
	return after, true, nil
}
