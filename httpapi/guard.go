package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// guard is what every request passes: it is counted, must not be made by a foreign web page, must be one of those that may be
// in flight, and must have the token.
func (s *Server) guard(next http.Handler) http.Handler {
	inFlight := make(chan struct{}, s.cfg.MaxRequests)
	foreign := http.NewCrossOriginProtection()
	return s.count(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := foreign.Check(r); err != nil {
			writeProblem(w, problem(http.StatusForbidden, "%v", err))
			return
		}
		if s.cfg.Token == "" && !isLoopback(hostOf(r.Host)) {
			// A web page whose host name was made to point to this machine could read everything.
			writeProblem(w, problem(http.StatusMisdirectedRequest, "this server answers as %s only; set http.token to reach it by another name", s.cfg.Listen))
			return
		}
		select {
		case inFlight <- struct{}{}:
			defer func() { <-inFlight }()
		default:
			writeProblem(w, problem(http.StatusServiceUnavailable, "%d requests are in flight already", s.cfg.MaxRequests).retryAfter(time.Second))
			return
		}
		if !s.authorized(r) {
			p := problem(http.StatusUnauthorized, `send "Authorization: Bearer" and the token of the configuration`)
			p.headers.Set("WWW-Authenticate", `Bearer realm="lanternist"`)
			writeProblem(w, p)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		next.ServeHTTP(w, r)
	}))
}

// authorized compares digests in constant time, so that neither the token nor its length can be guessed from how long
// it takes.
func (s *Server) authorized(r *http.Request) bool {
	if s.cfg.Token == "" || r.URL.Path == healthPath || r.URL.Path == readyPath {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(s.cfg.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "bearer")
}

// count measures requests by route and status.
func (s *Server) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			if cause := recover(); cause != nil {
				s.panicked(recorder, r, cause)
			}
			route := r.Pattern
			if route == "" {
				route = "none"
			}
			s.metrics.requests.WithLabelValues(route, strconv.Itoa(recorder.status)).Inc()
			s.metrics.durations.WithLabelValues(route).Observe(time.Since(began).Seconds())
		}()
		next.ServeHTTP(recorder, r)
	})
}

// panicked answers a request whose handler has a bug, or could not write its answer.
func (s *Server) panicked(w *statusRecorder, r *http.Request, cause any) {
	if r.Context().Err() != nil {
		return // the client has gone: writing failed
	}
	s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "panic", cause, "stack", string(debug.Stack()))
	if !w.written {
		writeProblem(w, problem(http.StatusInternalServerError, "the request failed; see the log"))
	}
}

// hostOf is a Host header without its port.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// statusRecorder remembers the status of an answer.
type statusRecorder struct {
	http.ResponseWriter
	status  int
	written bool
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status, r.written = status, true
	r.ResponseWriter.WriteHeader(status)
}

func (r *statusRecorder) Write(b []byte) (int, error) {
	r.written = true
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// writeProblem answers with a problem outside of an operation. A client that has gone is no error of ours.
func writeProblem(w http.ResponseWriter, p *Problem) {
	for name, values := range p.headers {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}
