package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

type projectorsOutput struct {
	Body projectorsBody
}

type projectorsBody struct {
	Projectors []ProjectorStatus `json:"projectors" doc:"Ordered by name."`
}

func (s *Server) registerProjectors(api huma.API) {
	huma.Register(api, get("list-projectors", "/v1/projectors", "projectors", "Every projector, of views and of streams, and how far it is"),
		func(context.Context, *struct{}) (*projectorsOutput, error) {
			return &projectorsOutput{Body: projectorsBody{Projectors: s.projectorStatuses()}}, nil
		})
}

// projectorStatuses are the states of all projectors, ordered by name.
func (s *Server) projectorStatuses() []ProjectorStatus {
	all := []ProjectorStatus{}
	for _, p := range s.projectors() {
		status := p.Status()
		all = append(all, ProjectorStatus{Status: status, LSN: status.LSN.String()})
	}
	slices.SortFunc(all, func(a, b ProjectorStatus) int { return strings.Compare(a.Projector, b.Projector) })
	return all
}

// projectors lists the projectors of all views that follow the source, and streams.
func (s *Server) projectors() []Replayer {
	var all []Replayer
	for _, v := range s.served.Load().all() {
		if v.frozen() != nil {
			continue
		}
		for _, p := range v.projectors() {
			all = append(all, p)
		}
	}
	return append(all, s.streams...)
}

// projector finds a projector by name. One of a view as of a moment is refused: it takes no events.
func (s *Server) projector(name string) (Replayer, error) {
	var names []string
	for _, p := range s.projectors() {
		other := p.Status().Projector
		if other == name {
			return p, nil
		}
		names = append(names, other)
	}
	for _, v := range s.served.Load().all() {
		for _, p := range v.projectors() {
			if f, ok := p.(*Frozen); ok && f.Status().Projector == name {
				return nil, f.refusal("given events")
			}
		}
	}
	slices.Sort(names)
	return nil, problem(http.StatusNotFound, "there is no projector %q; there are %q", name, slices.Compact(names))
}
