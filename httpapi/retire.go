package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) registerRetire(api huma.API) {
	start := get("start-retire", "/v1/views/{view}/retire", "views", "Remove the older generations that are kept to go back to", 404, 409)
	start.Method, start.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, start, func(_ context.Context, in *rebuildInput) (*rebuildOutput, error) {
		return s.startChange(in, changeRetire)
	})
	huma.Register(api, get("get-retire", "/v1/views/{view}/retire", "views", "How far the removal that was started last is", 404),
		func(_ context.Context, in *ViewInput) (*rebuildOutput, error) { return s.getChange(in, changeRetire) })
}
