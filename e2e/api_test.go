package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/internal/devstack"
)

// client asks the APIs of all tests.
var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}

// reachWithin is how long a test waits for the views to reach a position.
const reachWithin = 2 * time.Minute

// answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask asks the API. The error is that there was no answer.
func (in *installation) ask(method, path string, query url.Values) (answer, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(in.t.Context(), method, in.base+path, nil)
	if err != nil {
		return answer{}, err
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, body}, err
}

// readAfter reads something that reflects a token, and asks again when the time of a request was not enough.
func (in *installation) readAfter(path, token string, query url.Values) (a answer, err error) {
	with := url.Values{"after": {token}, "wait": {"20s"}}
	maps.Copy(with, query)
	for end := time.Now().Add(reachWithin); ; {
		a, err = in.ask(http.MethodGet, path, with)
		if err != nil || a.status != http.StatusGatewayTimeout || time.Now().After(end) {
			return a, err
		}
	}
}

// get reads an answer with status 200 into v, which may be nil.
func (in *installation) get(path string, v any) error {
	a, err := in.ask(http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return fmt.Errorf("%s: status %d: %s", path, a.status, a.body)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(a.body, v)
}

// status is the part of /v1/status that the tests look at.
type status struct {
	Ready   bool `json:"ready"`
	Journal struct {
		LSN  string `json:"lsn"`
		Head uint64 `json:"head"`
	} `json:"journal"`
	Projectors []struct {
		Projector  string `json:"projector"`
		Generation int    `json:"generation"`
		LSN        string `json:"lsn"`
		State      string `json:"state"`
		Parked     int    `json:"parked"`
		Documents  uint64 `json:"documents"`
		Error      string `json:"error"`
		Build      *struct {
			Step     string `json:"step"`
			HeldBack string `json:"held_back"`
		} `json:"build"`
	} `json:"projectors"`
}

func (in *installation) status() status {
	in.t.Helper()
	var s status
	if err := in.get("/v1/status", &s); err != nil {
		in.t.Fatal(err)
	}
	return s
}

// generations are the numbers of the live generations by projector.
func (s status) generations() map[string]int {
	all := map[string]int{}
	for _, p := range s.Projectors {
		all[p.Projector] = p.Generation
	}
	return all
}

// position is a token for everything committed until now.
func (in *installation) position() string {
	in.t.Helper()
	var lsn string
	conn := in.database.Conn(in.t.Context())
	defer conn.Close(in.t.Context())
	if err := conn.QueryRow(in.t.Context(), "SELECT pg_current_wal_flush_lsn()::text").Scan(&lsn); err != nil {
		in.t.Fatal(err)
	}
	return lsn
}

// reach waits until every view in every sink shows everything committed until now.
func (d *daemon) reach() {
	d.in.t.Helper()
	token := d.in.position()
	for _, view := range d.in.views {
		d.reachIn("/v1/views/"+view+"/none", token)
		d.reachIn("/v1/views/"+view+"/search", token)
	}
}

// reachIn waits until an answer at a path reflects a token.
func (d *daemon) reachIn(path, token string) {
	d.in.t.Helper()
	devstack.Eventually(d.in.t, reachWithin, func() error {
		d.alive()
		a, err := d.in.ask(http.MethodGet, path, url.Values{"after": {token}, "wait": {"20s"}})
		if err != nil {
			return err
		}
		if a.status != http.StatusOK && a.status != http.StatusNotFound {
			return fmt.Errorf("%s after %s: status %d: %s", path, token, a.status, a.body)
		}
		if reached := a.lsn(d.in.t); reached < parseLSN(d.in.t, token) {
			d.in.t.Fatalf("%s answers %d for %s although it asked for %s", path, a.status, reached, token)
		}
		return nil
	})
}

// lsn is the position that an answer from a view reflects.
func (a answer) lsn(t testing.TB) pglogrepl.LSN {
	t.Helper()
	text, _, _ := strings.Cut(a.header.Get("Lanternist-Position"), "@")
	return parseLSN(t, text)
}

func parseLSN(t testing.TB, text string) pglogrepl.LSN {
	t.Helper()
	lsn, err := pglogrepl.ParseLSN(text)
	if err != nil {
		t.Fatalf("position %q: %v", text, err)
	}
	return lsn
}

// percentile is the value below which a share of the durations lies.
func percentile(durations []time.Duration, share float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// field is a text of the document in an answer, "" when it is null or not there.
func (a answer) field(t testing.TB, path ...string) string {
	t.Helper()
	return textAt(t, a.body, path...)
}

// textAt is a text in a JSON document, "" when it is null or not there.
func textAt(t testing.TB, document []byte, path ...string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(document, &v); err != nil {
		t.Fatalf("%v: %s", err, document)
	}
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	text, _ := v.(string)
	return text
}
