package httpapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
)

func TestValidate(t *testing.T) {
	good := []Config{
		{Epoch: epoch},
		{Epoch: epoch, Listen: "localhost:0"},
		{Epoch: epoch, Listen: "[::1]:8080"},
		{Epoch: epoch, Listen: "127.3.2.1:8080"},
		{Epoch: epoch, Listen: ":8080", Token: "t"},
		{Epoch: epoch, Listen: "0.0.0.0:8080", Token: "t", TLSCert: "c", TLSKey: "k"},
	}
	for _, cfg := range good {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	for want, cfg := range map[string]Config{
		"set http.token":               {Epoch: epoch, Listen: ":8080"},
		"0.0.0.0:8080 can be reached":  {Epoch: epoch, Listen: "0.0.0.0:8080"},
		"[::]:8080 can be reached":     {Epoch: epoch, Listen: "[::]:8080"},
		"db.example:80 can be reached": {Epoch: epoch, Listen: "db.example:80"},
		"http.listen":                  {Epoch: epoch, Listen: "8080"},
		"epoch is not known":           {},
		"is not <system identifier>":   {Epoch: "primary"},
		"go together":                  {Epoch: epoch, TLSCert: "c"},
		"http.max_wait is negative":    {Epoch: epoch, MaxWait: -1},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", cfg, err, want)
		}
	}
	err := Config{Listen: ":80", TLSKey: "k"}.Validate()
	for _, want := range []string{"epoch", "token", "together"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("not all problems at once: %v", err)
		}
	}
}

func TestBearerToken(t *testing.T) {
	w := newWorld(t, func(cfg *Config, _ *Parts) { cfg.Token = "s3cret" })
	w.docs.get = anything
	for _, path := range []string{"/v1/views/orders/1", "/v1/status", "/metrics", "/openapi.json", "/v1/nothing"} {
		for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cret2", "Bearer s3cre"} {
			w.get(path, "Authorization", header).want(t, 401).header(t, "WWW-Authenticate", `Bearer realm="lanternist"`)
		}
	}
	w.get("/v1/views/orders/1", "Authorization", "Bearer s3cret").want(t, 200)
	w.get("/v1/views/orders/1", "Authorization", "bearer s3cret").want(t, 200)
	w.get("/healthz").want(t, 200)
	w.get("/readyz").want(t, 200)
}

func TestForeignPagesMayNotChangeAnything(t *testing.T) {
	w := newWorld(t, nil)
	w.cache.rebuild = func(context.Context, projectors.Progress) error { return nil }
	w.search.rebuild = w.cache.rebuild
	w.do(http.MethodPost, "/v1/views/orders/rebuild", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").want(t, 403)
	w.do(http.MethodPost, "/v1/views/orders/rebuild").want(t, 202)
}

func TestOtherHostNamesNeedAToken(t *testing.T) {
	w := newWorld(t, nil)
	for host, want := range map[string]int{
		"localhost:8080": 200, "127.0.0.1": 200, "[::1]:8080": 200, "[::1]": 200, "evil.example": 421, "evil.example:8080": 421, "10.0.0.1": 421, "127.0.0.1.evil.example": 421,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.http.URL+"/v1/views", nil)
		must(t, err)
		req.Host = host
		resp, err := w.http.Client().Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != want {
			t.Errorf("host %s: got %d, want %d", host, resp.StatusCode, want)
		}
	}
}

func TestPanicIsAProblem(t *testing.T) {
	w := newWorld(t, nil)
	w.docs.get = func(string) (cache.Document, error) { panic("bug") }
	w.get("/v1/views/orders/1").want(t, 500)
	w.docs.get = anything
	w.get("/v1/views/orders/1").want(t, 200)
}

func TestRequestsInFlight(t *testing.T) {
	w := newWorld(t, func(cfg *Config, _ *Parts) { cfg.MaxRequests = 1 })
	entered, leave := make(chan struct{}), make(chan struct{})
	w.docs.get = func(id string) (cache.Document, error) {
		entered <- struct{}{}
		<-leave
		return anything(id)
	}
	var first sync.WaitGroup
	first.Go(func() { w.get("/v1/views/orders/1").want(t, 200) })
	<-entered
	w.get("/v1/views").want(t, 503).header(t, "Retry-After", "1")
	close(leave)
	first.Wait()
	w.get("/v1/views").want(t, 200)
}

func TestHealthAndReadiness(t *testing.T) {
	w := newWorld(t, nil)
	for state, status := range map[projectors.State]int{
		projectors.StateRunning: 200, projectors.StateRetrying: 200, projectors.StateStarting: 503, projectors.StateWaiting: 503,
		projectors.StateBuilding: 503, projectors.StateStopped: 503,
	} {
		w.cache.status.State = state
		w.get("/healthz").want(t, 200)
		r := w.get("/readyz").want(t, status)
		if status != 200 && !strings.Contains(string(r.body), "orders.cache is "+string(state)) {
			t.Errorf("%s: %s", state, r.body)
		}
		if ready := into[Status](t, w.get("/v1/status").want(t, 200)).Ready; ready != (status == 200) {
			t.Errorf("%s: ready is %v", state, ready)
		}
	}
	w.cache.status.State, w.cache.status.Generation = projectors.StateRetrying, 0
	w.get("/readyz").want(t, 503)
}

func TestStatusAndViews(t *testing.T) {
	w := newWorld(t, nil)
	appendOrders(t, w, 2)
	w.cache.status.LSN = 0x2030
	w.source.heard(0x2030)
	r := w.get("/v1/status").want(t, 200)
	status := into[Status](t, r)
	if status.Epoch != epoch || status.Version != "test" || status.Journal.Head != w.journal.Head().Offset || status.Journal.LSN != "0/2030" ||
		status.Source.Heard.IsZero() || len(status.Projectors) != 3 || status.Projectors[0].LSN != "0/2030" {
		t.Errorf("got %s", r.body)
	}
	r = w.get("/v1/views").want(t, 200)
	list := into[viewsBody](t, r).Views
	if len(list) != 2 || list[0].Name != "orders" || len(list[0].Lookups) != 2 || len(list[0].Fields) != 3 || list[0].Root != "public.orders" ||
		len(list[0].Sinks) != 2 || len(list[1].Sinks) != 1 {
		t.Errorf("got %s", r.body)
	}
	w.docs.get = anything
	w.get("/v1/views/orders/1").want(t, 200)
	metrics := w.get("/metrics")
	for _, want := range []string{
		`lanternist_http_requests_total{route="GET /v1/views/{view}/{id}",status="200"} 1`, "lanternist_http_request_seconds_bucket", "lanternist_http_waiting 0",
	} {
		if !strings.Contains(string(metrics.body), want) {
			t.Errorf("/metrics does not have %s", want)
		}
	}
}

func TestRebuild(t *testing.T) {
	w := newWorld(t, nil)
	w.get("/v1/views/orders/rebuild").want(t, 404)
	progressed, leave := make(chan struct{}), make(chan error)
	w.cache.rebuild = func(ctx context.Context, progress projectors.Progress) error {
		progress(3, 10)
		progressed <- struct{}{}
		select {
		case err := <-leave:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	w.search.rebuild = func(context.Context, projectors.Progress) error { return nil }
	w.do(http.MethodPost, "/v1/views/orders/rebuild").want(t, 202).header(t, "Location", "/v1/views/orders/rebuild")
	<-progressed
	w.do(http.MethodPost, "/v1/views/orders/rebuild").want(t, 409)
	state := into[rebuildBody](t, w.get("/v1/views/orders/rebuild").want(t, 200))
	if s := state.Sinks["cache"]; state.State != JobRunning || s.State != JobRunning || s.Done != 3 || s.Total != 10 {
		t.Errorf("got %+v", state)
	}
	leave <- nil
	ended := func(want JobState) (state rebuildBody) {
		devstack.Eventually(t, time.Minute, func() error {
			state = into[rebuildBody](t, w.get("/v1/views/orders/rebuild").want(t, 200))
			if state.State != want {
				return fmt.Errorf("%+v", state)
			}
			return nil
		})
		return state
	}
	if state := ended(JobDone); state.Finished.IsZero() || len(state.Sinks) != 2 {
		t.Errorf("got %+v", state)
	}
	w.do(http.MethodPost, "/v1/views/orders/rebuild?sink=cache").want(t, 202)
	<-progressed
	leave <- errors.New("disk is full")
	if state := ended(JobFailed); state.Sinks["cache"].Error != "disk is full" || len(state.Sinks) != 1 {
		t.Errorf("got %+v", state)
	}
	w.do(http.MethodPost, "/v1/views/searched/rebuild?sink=cache").want(t, 422)
	w.do(http.MethodPost, "/v1/views/orders/rebuild?sink=disk").want(t, 422)
	// One that runs when the server stops ends, and none is started after that.
	w.do(http.MethodPost, "/v1/views/orders/rebuild?sink=cache").want(t, 202)
	<-progressed
	w.server.jobs.stop()
	ended(JobFailed)
	w.do(http.MethodPost, "/v1/views/orders/rebuild?sink=cache").want(t, 409)
}

func TestDeadLetters(t *testing.T) {
	w := newWorld(t, nil)
	letters := []deadletter.Letter{
		{Projector: "orders.search", View: "orders", DocumentID: "1", Offset: 5, Payload: []byte(`{"a":1}`), Reason: "mapper_parsing_exception", Class: "permanent"},
		{Projector: "orders.search", View: "orders", DocumentID: "a/b", Offset: 6, Payload: []byte("\xffno json")},
		{Projector: "other.search", View: "other", DocumentID: "1", Offset: 5},
	}
	for _, l := range letters {
		must(t, w.letters.Park(t.Context(), l))
	}
	var all []letter
	cursor := ""
	for {
		body := into[lettersBody](t, w.get("/v1/deadletters?limit=2&cursor="+cursor).want(t, 200))
		all = append(all, body.Letters...)
		if cursor = body.Cursor; cursor == "" {
			break
		}
	}
	if len(all) != 3 || all[0].DocumentID != "1" || all[0].Offset != 5 || all[0].Payload != nil || all[0].PayloadSize != 7 || all[2].View != "other" {
		t.Fatalf("got %+v", all)
	}
	first := into[letter](t, w.get("/v1/deadletters/"+all[0].ID).want(t, 200))
	if string(first.Payload) != `{"a":1}` || first.Reason != "mapper_parsing_exception" {
		t.Errorf("got %+v", first)
	}
	second := into[letter](t, w.get("/v1/deadletters/"+all[1].ID).want(t, 200))
	var bytes []byte
	if err := json.Unmarshal(second.Payload, &bytes); err != nil || string(bytes) != "\xffno json" {
		t.Errorf("payload that is not JSON: %s, %v", second.Payload, err)
	}
	w.get("/v1/deadletters/nothing").want(t, 404)
	for query, want := range map[string]int{
		"view=other": 1, "projector=orders.search": 2, "document=1": 2, "document=a%2Fb": 1, "since=2020-01-01T00:00:00Z": 3, "since=2200-01-01T00:00:00Z": 0,
	} {
		if got := into[lettersBody](t, w.get("/v1/deadletters?"+query).want(t, 200)).Letters; len(got) != want {
			t.Errorf("%s: %d letters, want %d", query, len(got), want)
		}
	}
	w.get("/v1/deadletters?since=yesterday").want(t, 422)
}

func TestOpenAPI(t *testing.T) {
	w := newWorld(t, func(cfg *Config, _ *Parts) { cfg.Token = "s3cret" })
	doc := into[struct {
		OpenAPI    string
		Info       struct{ Title, Version, Description string }
		Components struct {
			Schemas         map[string]json.RawMessage
			SecuritySchemes map[string]any
		}
		Paths map[string]map[string]struct {
			OperationID string
			Parameters  []struct{ Name, In string }
			Responses   map[string]struct {
				Headers map[string]any
				Content map[string]any
			}
		}
	}](t, w.get("/openapi.json", "Authorization", "Bearer s3cret").want(t, 200))
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Info.Title != "Lanternist" || doc.Info.Version != "test" || doc.Components.SecuritySchemes["bearer"] == nil {
		t.Errorf("got %+v", doc.Info)
	}
	for _, op := range []string{
		"get /v1/views", "get /v1/views/{view}", "get /v1/views/{view}/{id}", "get /v1/views/{view}/search", "post /v1/views/{view}/rebuild",
		"get /v1/views/{view}/rebuild", "post /v1/projectors/{projector}/replay", "get /v1/projectors/{projector}/replay", "get /v1/events", "get /v1/deadletters", "get /v1/deadletters/{id}", "post /v1/deadletters/{id}/redrive",
		"delete /v1/deadletters/{id}", "delete /v1/deadletters", "post /v1/deadletters/redrive", "get /v1/deadletters/redrive", "get /v1/deadletters/discard", "get /v1/deadletters/changes", "get /v1/status", "get /healthz", "get /readyz",
	} {
		method, path, _ := strings.Cut(op, " ")
		if doc.Paths[path][method].OperationID == "" {
			t.Errorf("%s is not described", op)
		}
	}
	read := doc.Paths["/v1/views/{view}/{id}"]["get"]
	names := map[string]bool{}
	for _, p := range read.Parameters {
		names[p.In+" "+p.Name] = true
	}
	for _, want := range []string{"path view", "path id", "query after", "query wait", "query min_version", "header If-None-Match"} {
		if !names[want] {
			t.Errorf("the parameter %s is not described: %v", want, names)
		}
	}
	for _, status := range []string{"200", "304", "404", "409", "410", "422", "503", "504"} {
		if _, ok := read.Responses[status]; !ok {
			t.Errorf("the answer %s is not described", status)
		}
	}
	for _, header := range []string{"ETag", "Lanternist-Position", "Lanternist-Offset", "Lanternist-Staleness-Ms"} {
		if read.Responses["200"].Headers[header] == nil {
			t.Errorf("the header %s is not described", header)
		}
	}
}

// TestRun serves over TLS, then stops while a request waits: the request is answered.
func TestRun(t *testing.T) {
	cert, key, pool := certificate(t)
	w := newWorld(t, func(cfg *Config, _ *Parts) {
		cfg.Listen, cfg.TLSCert, cfg.TLSKey = "127.0.0.1:0", cert, key
	})
	w.docs.get = anything
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.server.Run(ctx) }()
	devstack.Eventually(t, time.Minute, func() error {
		if w.server.Address() == nil {
			return errors.New("not listening")
		}
		return nil
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	answered := make(chan error, 1)
	go func() {
		resp, err := client.Get(w.server.URL() + "/v1/views/orders/1?after=0/20&wait=30s")
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			err = errors.Join(err, resp.Body.Close())
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
		}
		answered <- err
	}()
	devstack.Eventually(t, time.Minute, func() error {
		if len(w.server.waiters) != 1 {
			return errors.New("not waiting")
		}
		return nil
	})
	stop := errors.New("stop")
	cancel(stop)
	w.cache.advance(0x20, 9)
	must(t, <-answered)
	if err := <-ended; !errors.Is(err, stop) {
		t.Errorf("Run returned %v, want its context's cause", err)
	}
}

func TestRunCannotListen(t *testing.T) {
	w := newWorld(t, nil)
	w.server.cfg.Listen = strings.TrimPrefix(w.http.URL, "http://")
	if err := w.server.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

// TestTransactionsFromTheJournal: what has been read from the log needs no question to the source.
func TestTransactionsFromTheJournal(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.server.follower.run(ctx)
	}()
	appendOrders(t, w, 2)
	w.docs.get = anything
	w.cache.advance(0x2030, event.NewOffset(2, 0))
	devstack.Eventually(t, time.Minute, func() error {
		if _, _, err := w.server.follower.resolve(ctx, 702); err != nil {
			return err
		}
		return nil
	})
	w.get("/v1/views/orders/1?after=xid:702").want(t, 200)
	p := w.get("/v1/views/orders/1?after=xid:703").want(t, 422).problem(t)
	if !strings.Contains(p.Errors[0].Message, "703 is not known") {
		t.Errorf("got %+v", p.Errors[0])
	}
	cancel()
	<-ended
}

// certificate makes a certificate for 127.0.0.1 and returns its files and a pool that trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return cert, key, pool
}
