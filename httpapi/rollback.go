package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/projectors"
)

type generationsOutput struct {
	Body generationsBody
}

type generationsBody struct {
	View  string                                   `json:"view"`
	Sinks map[string][]projectors.GenerationStatus `json:"sinks" doc:"Ordered by number."`
}

func (s *Server) registerRollback(api huma.API) {
	start := get("start-rollback", "/v1/views/{view}/rollback", "views",
		"Send readers back to the generation that was live before, when it has caught up", 404, 409)
	start.Method, start.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, start, func(_ context.Context, in *rebuildInput) (*rebuildOutput, error) {
		return s.startChange(in, changeRollback)
	})
	huma.Register(api, get("get-rollback", "/v1/views/{view}/rollback", "views", "How far the rollback that was started last is", 404),
		func(_ context.Context, in *ViewInput) (*rebuildOutput, error) { return s.getChange(in, changeRollback) })
	huma.Register(api, get("list-generations", "/v1/views/{view}/generations", "views", "The generations that each sink holds", 404), s.listGenerations)
}

func (s *Server) listGenerations(_ context.Context, in *ViewInput) (*generationsOutput, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	body := generationsBody{View: v.name(), Sinks: map[string][]projectors.GenerationStatus{}}
	for sink, p := range v.projectors() {
		body.Sinks[sink] = append([]projectors.GenerationStatus{}, p.Status().Generations...)
	}
	return &generationsOutput{Body: body}, nil
}
