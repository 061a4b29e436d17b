package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
)

const replayed = "/v1/projectors/orders.cache/replay"

// replayEnded waits for the end of the replay that was started last.
func replayEnded(t *testing.T, w *world, want JobState) (state replayBody) {
	t.Helper()
	devstack.Eventually(t, time.Minute, func() error {
		state = into[replayBody](t, w.get(replayed).want(t, 200))
		if state.State != want {
			return fmt.Errorf("%+v", state)
		}
		return nil
	})
	return state
}

func TestReplay(t *testing.T) {
	w := newWorld(t, nil)
	appendOrders(t, w, 3)
	w.get(replayed).want(t, 404)
	w.get("/v1/projectors/orders.disk/replay").want(t, 404)
	w.do(http.MethodPost, "/v1/projectors/orders.disk/replay?from=0").want(t, 404)

	progressed, leave := make(chan projectors.ReplayRange), make(chan error)
	result := projectors.ReplayResult{To: w.journal.Head().Offset, Batches: 2, BatchesTotal: 3, Events: 6, Touching: 5, Documents: 3, Deleted: 1, Parked: 1}
	w.cache.replay = func(ctx context.Context, what projectors.ReplayRange, progress func(projectors.ReplayResult)) (projectors.ReplayResult, error) {
		progress(result)
		progressed <- what
		select {
		case err := <-leave:
			return result, err
		case <-ctx.Done():
			return result, context.Cause(ctx)
		}
	}
	w.do(http.MethodPost, replayed+"?from=0/2000").want(t, 202).header(t, "Location", replayed)
	first := event.NewOffset(w.journal.First(), 0)
	if what := <-progressed; what.From != first+2<<16 || what.To != 0 || what.DryRun {
		t.Errorf("asked for %+v", what)
	}
	w.do(http.MethodPost, replayed+"?from=0").want(t, 409)
	state := into[replayBody](t, w.get(replayed).want(t, 200))
	if state.State != JobRunning || state.Batches != 2 || state.BatchesTotal != 3 || state.Events != 6 || state.Touching != 5 ||
		state.Documents != 3 || state.Deleted != 1 || state.Parked != 1 || state.To != result.To || state.Projector != "orders.cache" {
		t.Errorf("got %+v", state)
	}
	leave <- nil
	if state = replayEnded(t, w, JobDone); state.Finished.IsZero() || state.Error != "" {
		t.Errorf("got %+v", state)
	}
	for _, why := range []error{errors.New("disk is full"), projectors.ErrNotRunning} {
		w.do(http.MethodPost, replayed+"?from=0&dry_run=true").want(t, 202)
		if what := <-progressed; !what.DryRun || what.From != 0 {
			t.Errorf("asked for %+v", what)
		}
		leave <- why
		if state = replayEnded(t, w, JobFailed); state.Error == "" || !state.DryRun {
			t.Errorf("got %+v", state)
		}
	}
	// One that runs when the server stops ends, and none is started after that.
	w.do(http.MethodPost, replayed+"?from=0").want(t, 202)
	<-progressed
	w.server.jobs.stop()
	replayEnded(t, w, JobFailed)
	w.do(http.MethodPost, replayed+"?from=0").want(t, 409)
}

func TestReplayRange(t *testing.T) {
	w := newWorld(t, nil)
	appendOrders(t, w, 3) // committed at 0/1000, 0/2000, 0/3000, at 23:05:12, 23:06:12, 23:07:12
	asked := make(chan projectors.ReplayRange, 1)
	w.cache.replay = func(_ context.Context, what projectors.ReplayRange, _ func(projectors.ReplayResult)) (projectors.ReplayResult, error) {
		asked <- what
		return projectors.ReplayResult{}, nil
	}
	all := allEvents(t, w, "")
	// in is how many of the journal's events are in a range.
	in := func(what projectors.ReplayRange) (n int, first event.Offset) {
		for _, offset := range all {
			if offset >= what.From && (what.To == 0 || offset <= what.To) {
				if n++; n == 1 {
					first = offset
				}
			}
		}
		return n, first
	}
	for query, want := range map[string]struct {
		events int
		first  event.Offset
	}{
		"from=0":                       {9, all[0]},
		fmt.Sprintf("from=%d", all[4]): {5, all[4]},
		fmt.Sprintf("from=%d&to=%d", all[4], all[6]): {3, all[4]},
		fmt.Sprintf("from=%d&to=%d", all[4], all[4]): {1, all[4]},
		"from=0/2000":               {6, all[3]},
		"from=0/2001":               {3, all[6]},
		"from=0/1000&to=0/2000":     {6, all[0]},
		"from=0/1000&to=0/1FFF":     {3, all[0]},
		"from=0/9000":               {0, 0},
		"from=2026-11-20T23:06:12Z": {6, all[3]},
		"from=2026-11-20T23:05:12Z&to=2026-11-20T23:06:12Z":            {6, all[0]},
		"from=2026-11-20T23:05:12Z&to=2026-11-20T23:06:11.999999Z":     {3, all[0]},
		"from=2026-11-20T23:05:12.000001Z&to=2027-01-01T00:00:00Z":     {6, all[3]},
		fmt.Sprintf("from=0/2000&to=%d", all[3]):                       {1, all[3]},
		fmt.Sprintf("from=%d&to=2026-11-20T23:06:12%%2B00:00", all[2]): {4, all[2]},
	} {
		w.do(http.MethodPost, replayed+"?"+query).want(t, 202)
		if n, first := in(<-asked); n != want.events || first != want.first {
			t.Errorf("%s: %d events from %s, want %d from %s", query, n, first, want.events, want.first)
		}
		replayEnded(t, w, JobDone)
	}
	for query, location := range map[string]string{
		"": "query.from", "from=": "query.from", "from=yesterday": "query.from", "from=-1": "query.from", "from=0&to=tomorrow": "query.to",
		fmt.Sprintf("from=%d", uint64(all[8]+1)):      "query.from",
		fmt.Sprintf("from=0&to=%d", uint64(all[8]+1)): "query.to", "from=0/3000&to=0/1000": "query.to", "from=0&to=0": "query.to",
	} {
		p := w.do(http.MethodPost, replayed+"?"+query).want(t, 422).problem(t)
		if len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Errorf("%q: %+v", query, p.Errors)
		}
	}
	w.do(http.MethodPost, replayed+"?from=0&until=1").want(t, 422)
}

// What the journal has dropped is refused at once, with what there is.
func TestReplayOfTrimmedRange(t *testing.T) {
	w := newWorld(t, nil)
	engine, err := segments.Open(filepath.Join(t.TempDir(), "short"), segments.Config{SegmentSize: 1 << 20}, quiet)
	must(t, err)
	short, err := journal.Open(t.Context(), engine, w.registry, journal.Config{Retention: journal.Retention{Size: 1 << 20}}, quiet)
	must(t, err)
	t.Cleanup(func() { must(t, short.Close()) })
	w.server.journal = short
	schema, err := w.registry.Register(t.Context(), ordersSchema)
	must(t, err)
	big := strings.Repeat("x", 64<<10)
	for n := 1; short.First() <= 3; n++ {
		tx := event.Transaction{
			XID: uint32(700 + n), CommitLSN: pglogrepl.LSN(n * 0x1000), EndLSN: pglogrepl.LSN(n*0x1000 + 0x30),
			CommitTime: commitTime.Add(time.Duration(n) * time.Minute),
		}
		ev := event.Event{Transaction: &tx, Op: event.Insert, Schema: schema, After: row.Of(&big, nil, nil)}
		_, err := short.Append(t.Context(), []journal.Part{{Transaction: tx, Complete: true, Events: []event.Event{ev}}})
		must(t, err)
	}
	oldest, found, err := short.Oldest(t.Context())
	if err != nil || !found || oldest.Offset != event.NewOffset(short.First(), 0) {
		t.Fatalf("oldest: %+v %t %v", oldest, found, err)
	}
	w.cache.replay = func(context.Context, projectors.ReplayRange, func(projectors.ReplayResult)) (projectors.ReplayResult, error) {
		return projectors.ReplayResult{}, nil
	}
	for _, query := range []string{
		"from=0", fmt.Sprintf("from=%d", oldest.Offset-1), "from=0/1000", "from=2026-11-20T23:05:12Z", fmt.Sprintf("from=%d&to=0/1000", oldest.Offset),
	} {
		p := w.do(http.MethodPost, replayed+"?"+query).want(t, 410).problem(t)
		for _, want := range []string{fmt.Sprint(uint64(oldest.Offset)), oldest.CommitLSN.String(), oldest.CommitTime.UTC().Format(time.RFC3339)} {
			if !strings.Contains(p.Detail, want) {
				t.Errorf("%s: %q does not name %s", query, p.Detail, want)
			}
		}
	}
	w.get(replayed).want(t, 404) // nothing was started
	w.do(http.MethodPost, fmt.Sprintf("%s?from=%d", replayed, oldest.Offset)).want(t, 202)
	replayEnded(t, w, JobDone)
	w.do(http.MethodPost, replayed+"?from="+oldest.CommitLSN.String()).want(t, 202)
}
