package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/projectors"
)

// parkMany parks letters of documents 1 to n, and returns their ids.
func parkMany(t *testing.T, w *world, projector string, n int) (ids []string) {
	t.Helper()
	for i := range n {
		must(t, w.letters.Park(t.Context(), deadletter.Letter{
			Projector: projector, View: "orders", DocumentID: fmt.Sprint(i + 1), Offset: event.Offset(i + 1), Payload: []byte(`{"a":1}`),
			Reason: "mapper_parsing_exception", Class: "permanent", Attempts: 3,
		}))
	}
	must(t, w.letters.List(t.Context(), deadletter.Filter{Projector: projector}, func(l deadletter.Letter) error {
		ids = append(ids, l.ID)
		return nil
	}))
	return ids
}

// lettersDone waits for the end of what is done to letters.
func lettersDone(t *testing.T, w *world, path string) (work lettersWork) {
	t.Helper()
	devstack.Eventually(t, time.Minute, func() error {
		work = into[lettersWork](t, w.get(path).want(t, 200))
		if work.State == "running" {
			return fmt.Errorf("%+v", work)
		}
		return nil
	})
	return work
}

// What the sink takes is gone, what it refuses is parked again and not tried twice, all in the order of offsets.
func TestRedrive(t *testing.T) {
	w := newWorld(t, nil)
	ids := parkMany(t, w, "orders.search", 250)
	parkMany(t, w, "orders.cache", 1)
	var tried []string
	w.search.redrive = func(ctx context.Context, letters []deadletter.Letter) error {
		for _, l := range letters {
			tried = append(tried, l.DocumentID)
			l.Offset, l.Last, l.Time, l.Attempts = 1000+l.Offset, time.Time{}, time.Time{}, 3
			if strings.HasSuffix(l.DocumentID, "7") {
				must(t, w.letters.Supersede(ctx, l))
				continue
			}
			must(t, w.letters.Resolve(ctx, l.Projector, l.DocumentID, l.Offset))
		}
		return nil
	}
	plan := into[lettersWork](t, w.do(http.MethodPost, redrivePath+"?projector=orders.search&dry_run=true").want(t, 200))
	if plan.State != "planned" || plan.Letters != 250 || len(plan.Projectors) != 1 || !slices.Equal(plan.Projectors[0].IDs, ids[:20]) || tried != nil {
		t.Fatalf("dry run: %+v", plan)
	}
	w.get(redrivePath).want(t, 404)
	w.do(http.MethodPost, redrivePath+"?projector=orders.search").want(t, 202).header(t, "Location", redrivePath)
	work := lettersDone(t, w, redrivePath)
	if work.State != "done" || work.Letters != 250 || work.Done != 225 || work.Left != 25 || len(tried) != 250 || tried[0] != "1" || tried[249] != "250" {
		t.Errorf("%+v, tried %q", work, tried)
	}
	if n := w.letters.Count("orders.search"); n != 25 {
		t.Errorf("%d letters are left", n)
	}
	must(t, w.letters.List(t.Context(), deadletter.Filter{Projector: "orders.search"}, func(l deadletter.Letter) error {
		if l.Attempts != 6 {
			t.Errorf("%s has %d attempts", l.DocumentID, l.Attempts)
		}
		return nil
	}))
	// One by its id, of another projector than is running for it.
	var other string
	must(t, w.letters.List(t.Context(), deadletter.Filter{Projector: "orders.cache"}, func(l deadletter.Letter) error { other = l.ID; return nil }))
	w.cache.redrive = func(context.Context, []deadletter.Letter) error { return projectors.ErrNotRunning }
	w.do(http.MethodPost, "/v1/deadletters/"+other+"/redrive").want(t, 202)
	if work := lettersDone(t, w, redrivePath); work.State != "failed" || !strings.Contains(work.Error, "lanternist status") || w.letters.Count("orders.cache") != 1 {
		t.Errorf("%+v", work)
	}
}

func TestDiscardLetters(t *testing.T) {
	w := newWorld(t, nil)
	ids := parkMany(t, w, "orders.search", 12)
	parkMany(t, w, "orders.cache", 3)
	w.do(http.MethodDelete, "/v1/deadletters/"+ids[0]).want(t, 204)
	w.do(http.MethodDelete, "/v1/deadletters/"+ids[0]).want(t, 404)
	plan := into[lettersWork](t, w.do(http.MethodDelete, "/v1/deadletters?projector=orders.search&dry_run=true").want(t, 200))
	if plan.Letters != 11 || w.letters.Count("orders.search") != 11 {
		t.Errorf("%+v", plan)
	}
	w.do(http.MethodDelete, "/v1/deadletters?projector=orders.search&document=3").want(t, 202)
	if work := lettersDone(t, w, discardPath); work.State != "done" || work.Done != 1 {
		t.Errorf("%+v", work)
	}
	w.do(http.MethodDelete, "/v1/deadletters?all=true").want(t, 202)
	if work := lettersDone(t, w, discardPath); work.State != "done" || work.Done != 13 || w.letters.Count("orders.search")+w.letters.Count("orders.cache") != 0 {
		t.Errorf("%+v", work)
	}
	if s := into[Status](t, w.get("/v1/status").want(t, 200)); len(s.DeadLetters) != 0 {
		t.Errorf("%+v", s.DeadLetters)
	}
}

// Every bad request names what is wrong and a command, and changes nothing.
func TestFaultBadLetterRequests(t *testing.T) {
	faults.Cause(t, faults.Fault{
		ID: "dead-letters-bad-request", Area: "API", Fault: "a redrive or discard is asked for with an unknown id, a bad filter, an id of another projector, or letters whose view or generation is gone",
		Promise: "it is refused with one error that says what to do; no letter is changed or lost",
		Answer:  "`lanternist deadletters list`, and what the error says",
	})
	w := newWorld(t, nil)
	ids := parkMany(t, w, "orders.search", 2)
	gone := parkMany(t, w, "former.search", 1)
	old := parkMany(t, w, "orders.search-g3", 1)
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{http.MethodPost, redrivePath, 422, "all=true"},
		{http.MethodDelete, "/v1/deadletters", 422, "all=true"},
		{http.MethodPost, redrivePath + "?all=true&view=orders", 422, "exclude each other"},
		{http.MethodDelete, "/v1/deadletters?projectr=orders.search", 422, "projectr"},
		{http.MethodPost, redrivePath + "?id=nonsense", 422, "lanternist deadletters list"},
		{http.MethodPost, redrivePath + "?id=" + strings.Replace(ids[0], "1", "2", 1), 404, "lanternist deadletters list"},
		{http.MethodDelete, "/v1/deadletters/" + url.PathEscape("a/b"), 404, "lanternist deadletters list"},
		{http.MethodDelete, "/v1/deadletters?id=" + ids[0] + "&projector=orders.cache", 422, "of projector orders.search, not of orders.cache"},
		{http.MethodDelete, "/v1/deadletters?id=" + ids[0] + "&view=other", 422, "lanternist deadletters show"},
		{http.MethodPost, redrivePath + "?since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", 422, "after the other"},
		{http.MethodPost, redrivePath + "?since=yesterday", 422, "since"},
		{http.MethodPost, redrivePath + "?reason=nothing+like+it", 404, "lanternist deadletters list"},
		{http.MethodDelete, "/v1/deadletters?class=nonsense", 404, "lanternist deadletters list"},
		{http.MethodPost, "/v1/deadletters/" + gone[0] + "/redrive", 409, "lanternist deadletters discard --projector former.search"},
		{http.MethodPost, "/v1/deadletters/" + old[0] + "/redrive", 409, "lanternist rebuild --rollback orders"},
		{http.MethodGet, "/v1/deadletters?cursor=nonsense", 422, "nonsense"},
		{http.MethodGet, "/v1/deadletters/changes?after=soon", 422, "after"},
	} {
		r := w.do(c.method, c.path).want(t, c.status)
		if !strings.Contains(string(r.body), c.says) {
			t.Errorf("%s %s: %s", c.method, c.path, r.body)
		}
	}
	// Among others, those that nobody can try are named and stay.
	w.search.redrive = func(ctx context.Context, letters []deadletter.Letter) error {
		for _, l := range letters {
			must(t, w.letters.Resolve(ctx, l.Projector, l.DocumentID, l.Offset))
		}
		return nil
	}
	if n := w.letters.Count("orders.search") + w.letters.Count("former.search") + w.letters.Count("orders.search-g3"); n != 4 {
		t.Errorf("%d letters are left", n)
	}
	w.do(http.MethodPost, redrivePath+"?all=true").want(t, 202)
	work := lettersDone(t, w, redrivePath)
	if work.State != "failed" || work.Done != 2 || !strings.Contains(work.Error, "former.search") || !strings.Contains(work.Error, "generation 3") {
		t.Errorf("%+v", work)
	}
	if n := w.letters.Count("former.search") + w.letters.Count("orders.search-g3"); n != 2 {
		t.Errorf("%d letters are left", n)
	}
}

func TestWatchLetters(t *testing.T) {
	w := newWorld(t, nil)
	parkMany(t, w, "orders.search", 2)
	first := into[changesBody](t, w.get("/v1/deadletters/changes").want(t, 200))
	if len(first.Changes) != 0 || first.Missed {
		t.Fatalf("what was before: %+v", first)
	}
	answers := make(chan reply, 1)
	go func() {
		answers <- w.get("/v1/deadletters/changes?wait=20s&projector=orders.search&after=" + first.Next)
	}()
	parkMany(t, w, "orders.cache", 1)
	must(t, w.letters.Resolve(t.Context(), "orders.search", "1", 5))
	got := into[changesBody](t, (<-answers).want(t, 200))
	if len(got.Changes) != 1 || got.Changes[0].Kind != deadletter.Resolved || got.Changes[0].Letter.DocumentID != "1" || got.Missed {
		t.Errorf("%+v", got)
	}
	if none := into[changesBody](t, w.get("/v1/deadletters/changes?wait=1ms&after="+got.Next).want(t, 200)); len(none.Changes) != 0 || none.Missed {
		t.Errorf("%+v", none)
	}
	// A client of the life before hears that it has missed some.
	if other := into[changesBody](t, w.get("/v1/deadletters/changes?after=1-1").want(t, 200)); !other.Missed {
		t.Errorf("%+v", other)
	}
}
