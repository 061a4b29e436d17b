package httpapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/internal/disk"
	"github.com/lanternist/lanternist/projectors"
)

const (
	healthPath = "/healthz"
	readyPath  = "/readyz"
)

type healthOutput struct {
	Body healthBody
}

type healthBody struct {
	Status string `json:"status" doc:"ok, ready, or waiting for a disk: reads go on then, and nothing new comes."`
	// Disks is absent as a rule.
	Disks []disk.Waiting `json:"disks,omitempty" doc:"Stores that wait for room on their disk, or for a file descriptor."`
}

// healthOf is the answer ok, unless a disk is waited for.
func (s *Server) healthOf(ok string) *healthOutput {
	if waiting := s.disks(); len(waiting) > 0 {
		return &healthOutput{Body: healthBody{Status: "waiting for a disk", Disks: waiting}}
	}
	return &healthOutput{Body: healthBody{Status: ok}}
}

func (s *Server) registerHealth(api huma.API) {
	health := get("get-health", healthPath, "operation", "Whether the process answers")
	huma.Register(api, health, func(context.Context, *struct{}) (*healthOutput, error) {
		return s.healthOf("ok"), nil
	})
	ready := get("get-readiness", readyPath, "operation", "Whether every view can be read", 503)
	huma.Register(api, ready, func(context.Context, *struct{}) (*healthOutput, error) {
		if waiting := notReady(s.asked(s.Status().Projectors)); len(waiting) > 0 {
			return nil, problem(http.StatusServiceUnavailable, "not ready: %v", waiting)
		}
		return s.healthOf("ready"), nil
	})
}

// notReady names the projectors whose documents cannot be relied on: not loaded yet, or stopped. One that repeats what
// failed is behind, and says so in every answer, but what it has can be read.
func notReady(all []ProjectorStatus) []string {
	var names []string
	for _, p := range all {
		running := p.State == projectors.StateRunning || p.State == projectors.StateRetrying
		if !running || p.Generation == 0 && p.View != "" { // a stream has no generations
			names = append(names, p.Projector+" is "+string(p.State))
		}
	}
	return names
}

// asked leaves out the projectors that nobody can rely on yet: those of a view that was added a while ago and is being built.
func (s *Server) asked(all []ProjectorStatus) []ProjectorStatus {
	set := s.served.Load()
	return slices.DeleteFunc(slices.Clone(all), func(p ProjectorStatus) bool {
		v := set.byName[p.View]
		return v != nil && v.Added && p.Generation == 0
	})
}
