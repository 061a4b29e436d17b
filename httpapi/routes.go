package httpapi

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const description = `Query API of Lanternist: documents that follow a Postgres database.

Read your own writes: after a commit, pass ` + "`SELECT pg_current_wal_flush_lsn()`" + ` (or ` + "`xid:`" + ` and
` + "`pg_current_xact_id()`" + ` of the transaction) as ` + "`after=`" + `. The answer then reflects the commit, or is 504 when that takes
longer than ` + "`wait=`" + `. Every answer names the position that it reflects in ` + "`Lanternist-Position`" + `, which is such a token itself.`

// routes is everything the server answers.
func (s *Server) routes(gatherer prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	api := humago.New(mux, s.apiConfig())
	s.registerViews(api)
	s.registerDocuments(api)
	s.registerSearch(api)
	s.registerRebuild(api)
	s.registerProjectors(api)
	s.registerReplay(api)
	s.registerVerify(api)
	s.registerRollback(api)
	s.registerRetire(api)
	s.registerAsOf(api)
	s.registerCheckpoints(api)
	s.registerApply(api)
	s.registerEvents(api)
	s.registerLetters(api)
	s.registerLetterWork(api)
	s.registerLetterChanges(api)
	s.registerSchemas(api)
	s.registerArchive(api)
	s.registerStatus(api)
	s.registerJobs(api)
	s.registerHealth(api)
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("/", notFound(mux))
	return s.guard(mux)
}

func (s *Server) apiConfig() huma.Config {
	conf := huma.DefaultConfig("Lanternist", s.version())
	conf.Info.Description = description
	conf.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	conf.DocsPath, conf.SchemasPath = "", ""
	conf.CreateHooks = nil // no $schema in bodies
	if s.cfg.Token != "" {
		conf.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer"}}
		conf.Security = []map[string][]string{{"bearer": {}}}
	}
	return conf
}

func (s *Server) version() string {
	if s.cfg.Version == "" {
		return "unknown"
	}
	return s.cfg.Version
}

// get describes an operation that reads.
func get(id, path, tag, summary string, errors ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{tag}, Summary: summary, Errors: errors,
		MaxBodyBytes: maxBodyBytes, RejectUnknownQueryParameters: true,
	}
}

// view finds a view by name.
func (s *Server) view(name string) (*View, error) {
	set := s.served.Load()
	v, ok := set.byName[name]
	if !ok {
		return nil, problem(http.StatusNotFound, "there is no view %q; there are %q", name, set.names)
	}
	return v, nil
}

// notFound answers what no route is for, and tells a path that is there for other methods from one that is not.
func notFound(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
			if _, pattern := mux.Handler(other); pattern != "" && pattern != "/" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			writeProblem(w, problem(http.StatusNotFound, "there is nothing at %s; see /openapi.json", r.URL.Path))
			return
		}
		list := strings.Join(allowed, ", ")
		p := problem(http.StatusMethodNotAllowed, "%s takes %s, and not %s", r.URL.Path, list, r.Method)
		p.headers.Set("Allow", list)
		writeProblem(w, p)
	}
}
