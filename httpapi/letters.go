package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
)

type lettersInput struct {
	LetterFilter
	Limit  int    `query:"limit" minimum:"0" doc:"The most letters to answer. 0 or none: the server's page size."`
	Cursor string `query:"cursor" maxLength:"4096" doc:"From the page before."`
}

type lettersOutput struct {
	Body lettersBody
}

type lettersBody struct {
	Letters []letter `json:"letters" doc:"Ordered by projector and offset, without payloads."`
	Cursor  string   `json:"cursor,omitempty" doc:"For the next page; absent when there is none."`
}

// letter is a dead letter as readers see it: a payload that is JSON is shown as such.
type letter struct {
	ID          string          `json:"id"`
	Projector   string          `json:"projector"`
	View        string          `json:"view,omitempty"`
	Generation  int             `json:"generation,omitempty"`
	DocumentID  string          `json:"document_id"`
	Offset      event.Offset    `json:"offset" doc:"The version that was refused."`
	Keys        []string        `json:"keys,omitempty" doc:"Of an event of an ordered stream: what it concerns. Later events of any of them wait."`
	Reason      string          `json:"reason"`
	Class       string          `json:"class" doc:"permanent; or waiting: it was not tried, because an earlier event of its key is a dead letter."`
	Attempts    int             `json:"attempts" doc:"Since it was parked first, of older versions of the document, too."`
	Time        time.Time       `json:"time" doc:"When it, or an older version of the document, was parked first."`
	Last        time.Time       `json:"last,omitzero" doc:"When it was refused last."`
	PayloadSize int             `json:"payload_size" doc:"In bytes."`
	Payload     json.RawMessage `json:"payload,omitempty" doc:"What the sink was sent. Base64 in a string when it is not JSON; absent for a deletion, and when it was too large to keep."`
}

// LetterInput names a dead letter.
type LetterInput struct {
	ID string `path:"id" doc:"Id of the letter."`
}

type letterOutput struct {
	Body letter
}

func (s *Server) registerLetters(api huma.API) {
	huma.Register(api, get("list-deadletters", "/v1/deadletters", "dead letters", "List what sinks refused for good"), s.listLetters)
	huma.Register(api, get("get-deadletter", "/v1/deadletters/{id}", "dead letters", "Read a dead letter with its payload", 404), s.getLetter)
}

func (s *Server) listLetters(ctx context.Context, in *lettersInput) (*lettersOutput, error) {
	limit, err := s.pageSize(in.Limit)
	if err != nil {
		return nil, err
	}
	out := &lettersOutput{Body: lettersBody{Letters: []letter{}}}
	filter := in.filter()
	filter.After, filter.Limit = in.Cursor, limit+1
	if err := filter.Validate(); err != nil {
		return nil, problem(http.StatusUnprocessableEntity, "%v", err)
	}
	err = s.letters.List(ctx, filter, func(l deadletter.Letter) error {
		if len(out.Body.Letters) == limit {
			out.Body.Cursor = out.Body.Letters[limit-1].ID
			return nil
		}
		out.Body.Letters = append(out.Body.Letters, letterOf(l, false))
		return nil
	})
	if err != nil {
		return nil, s.lettersProblem(err)
	}
	return out, nil
}

func (s *Server) getLetter(ctx context.Context, in *LetterInput) (*letterOutput, error) {
	l, ok, err := s.letters.Get(ctx, in.ID)
	if err != nil {
		return nil, s.lettersProblem(err)
	}
	if !ok {
		return nil, noLetter(in.ID)
	}
	return &letterOutput{Body: letterOf(l, true)}, nil
}

func letterOf(l deadletter.Letter, payload bool) letter {
	shown := letter{
		ID: l.ID, Projector: l.Projector, View: l.View, Generation: l.Generation, DocumentID: l.DocumentID, Offset: l.Offset,
		Keys: l.Keys, Reason: l.Reason, Class: l.Class, Attempts: l.Attempts, Time: l.Time, Last: l.Last, PayloadSize: l.PayloadSize,
	}
	if payload && l.Payload != nil {
		shown.Payload = l.Payload
		if !json.Valid(l.Payload) {
			shown.Payload, _ = json.Marshal(l.Payload) // bytes always can be encoded
		}
	}
	return shown
}
